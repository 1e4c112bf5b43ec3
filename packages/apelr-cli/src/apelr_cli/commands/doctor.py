"""`apelr doctor`: what is installed, what it runs on, and what to do about what is wrong."""

import click

from apelr_cli.options import format_option

__all__ = ["doctor"]


@click.command()
@click.option("--network", is_flag=True, help="Ask the Hugging Face hub too whether it answers: some seconds at most.")
@format_option("text prints a page; json one object.")
@click.pass_context
def doctor(context: click.Context, /, *, network: bool, form: str) -> None:
    """Tell whether this installation and machine can run APEL-R.

    Exit code 0: all is well for use on the CPU. 1: there is a problem; each is one line with what to do about it.
    Warnings change nothing. Without --network nothing is sent anywhere.
    """
    from apelr_cli.console import show_report
    from apelr_cli.doctor_findings import doctor_lines, doctor_report
    from apelr_cli.doctor_machine import compiler_findings, torch_findings
    from apelr_cli.doctor_packages import package_findings, python_findings
    from apelr_cli.doctor_surroundings import folder_findings, hub_findings, text_findings

    findings = [
        *python_findings(),
        *package_findings(),
        *torch_findings(),
        *compiler_findings(),
        *hub_findings(ask=network),
        *folder_findings(),
        *text_findings(),
    ]
    report = doctor_report(findings)
    show_report(report, "\n".join(doctor_lines(findings)) + "\n" if form == "text" else None, None)
    context.exit(0 if report["ok"] else 1)
