"""The storyworld's plan: its beats, their Markov chain, and the sentence templates of every beat."""

BEATS: tuple[str, ...] = ("opening", "want", "journey", "obstacle", "help", "rest", "turn", "ending")
"""The planted plan's beats, in the order of the rows and columns below."""

INITIAL: tuple[float, ...] = (0.85, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""[B] probability of the first sentence's beat."""

TRANSITIONS: tuple[tuple[float, ...], ...] = (
    # opening, want, journey, obstacle, help, rest, turn, ending, end of the story
    (0.74, 0.21, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.74, 0.19, 0.07, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.74, 0.19, 0.0, 0.07, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.74, 0.18, 0.04, 0.04, 0.0, 0.0),
    (0.0, 0.0, 0.02, 0.08, 0.74, 0.0, 0.16, 0.0, 0.0),
    (0.0, 0.0, 0.10, 0.06, 0.10, 0.74, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.04, 0.0, 0.0, 0.74, 0.22, 0.0),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.74, 0.26),
)
"""[B, B + 1] row: a sentence's beat; column: the next sentence's beat, the last being the story's end."""

_OWN: dict[str, tuple[str, ...]] = {
    "opening": (
        "Once there was {a trait} {hero.child} called {hero}.",
        "{Hero} lived with {hero.their} {relative} {place.at}, near {a look} {landmark}.",
        "The {place} had {a look} {landmark} and {number} {colour} houses.",
        "{Hero} had {a trait} {pet} that loved {food}.",
        "{Hero.their} {relative} was {a trait} {job} with {a look} {garment}.",
        "People {place.at} said that {hero} was {trait}.",
        "{Hero.their} best friend was {friend}, {a trait} {friend.child} with {a colour} {garment}.",
        "Every {daypart}, {hero} and {friend} {danced} near {a look} {landmark}.",
        "The {trait} {pet} slept in {a look} {chest}.",
    ),
    "want": (
        "More than anything, {hero} wanted {a look} {hue} {thing}.",
        '{Hero} {said}, "I wish I had {a look} {hue} {thing}."',
        "{Hero.they} dreamed of {a hue} {thing} with {a colour} ribbon.",
        "In a shop near the {landmark}, {hero} had seen {a hue} {thing}.",
        "{Hero} counted {hero.their} {number} coins {how}.",
        '"{A hue} {thing} costs {number} coins," {said} {a trait} {job}.',
        "{Hero} asked {a trait} {job} where to find {a look} {thing}.",
        "{Hero.their} {relative} had heard of {a hue} {thing} beyond the {barrier}.",
        '"I will find {a hue} {thing}," {hero} told {a trait} {relative}.',
    ),
    "journey": (
        "{Moment}, {hero} packed some {food} and {a look} {tool}.",
        "{Hero} and the {pet} {walked} {how} past {a look} {landmark}.",
        "They {walked} {how} {along} for {number} miles.",
        "They passed {number} {fur} {animals} near {a look} {landmark}.",
        "The {trait} {pet} ran {how} {along}.",
        "{Hero} met {a trait} {job} with {number} {animals}.",
        '"Follow the path to the {landmark}," {said} {a trait} {job}.',
        "{Hero} sang {how} about {number} {fur} {animals}.",
        "{Hero} was {sad}, but {hero.they} {walked} {how} {along}.",
    ),
    "obstacle": (
        "{Suddenly}, {a grim} {barrier} blocked the path.",
        "Nobody could cross the {grim} {barrier} without {a look} {tool}.",
        "{Hero} tried {number} times to cross the {grim} {barrier}.",
        '"We will never get past this {grim} {barrier}," {said} {hero} {sadly}.',
        "The {pet} {shook} {sadly} and hid behind {a grim} {rock}.",
        "{Hero.they} felt {sad}, because the {barrier} was so {grim}.",
        "{Grim} clouds rolled over the {landmark}.",
        "{Hero} lost {hero.their} {colour} {garment} near the {grim} {barrier}.",
        "{A grim} {beast} stood before the {barrier} and {shook} {sadly}.",
        "The {tool} broke, and {hero} fell over {a grim} {rock}.",
    ),
    "help": (
        "{Luckily}, {friend} came {along} with {a look} {tool}.",
        '"Let me help you with my {look} {tool}," {said} {friend} {how}.',
        "{Friend} tied {a colour} rope to {a look} {rock}.",
        "{Friend} gave {hero} some {food} and {a colour} {garment}.",
        "{Hero} held the {look} {tool} while {friend} {worked} {how}.",
        "{A trait} {job} lent them {a look} {tool}.",
        "Together they built {a look} bridge from {number} {look} logs.",
        "{Friend} showed {hero.them} {a look} path around the {barrier}.",
        "The {trait} {pet} helped too and carried {a look} {tool}.",
    ),
    "rest": (
        "They rested {how} under {a look} tree and ate some {food}.",
        "{Hero} lit {a look} fire and warmed some {food}.",
        "The {trait} {pet} slept {how} on {a colour} {garment}.",
        "{Hero} told a story about {a trait} {job} and {number} {animals}.",
        "Above them, the {sky} drifted {how} over the {landmark}.",
        "{Hero} closed {hero.their} eyes and listened to the {sky}.",
        '"Sleep well, little {pet}," {said} {hero} {how}.',
        "In a dream, {hero} saw {number} {fur} {animals}.",
        "{Hero} lay {how} on {a colour} {garment} and watched the {sky}.",
    ),
    "turn": (
        "{Luckily}, they crossed the {grim} {barrier}, and {hero} felt {glad}.",
        "Beyond the {barrier} stood {a look} {landmark} with {a colour} door.",
        "Inside {a look} {chest}, {hero} found {a hue} {thing}.",
        '{Hero} shouted, "I can see {a hue} {thing} in {a look} {chest}!"',
        "The {beast} was not {grim} at all, only {sad}.",
        "{A trait} {job} offered {hero.them} the {hue} {thing} for {number} coins.",
        "{Hero} gave the {sad} {beast} some {food}, and it smiled {how}.",
        "The {hue} {thing} shone like {a colour} star.",
        "{Hero} lifted the {hue} {thing} {how} out of {a look} {chest}.",
    ),
    "ending": (
        "{Hero} carried the {hue} {thing} home {how} {moment}.",
        "Everyone {place.at} was {glad} and brought some {food}.",
        "{Hero.their} {relative} hugged {hero.them} and {danced} {how}.",
        "From then on, {hero} and {friend} shared the {hue} {thing} every {daypart}.",
        "The {trait} {pet} fell asleep beside the {hue} {thing}.",
        '"{Trait} friends are better than {a hue} {thing}," {said} {hero} {how}.',
        "That {daypart}, the whole {place} {danced} {how}.",
        "Nobody {place.at} was ever {sad} again.",
        "{Hero} was {glad}, and the {trait} {pet} was {glad} too.",
        "{Hero} never forgot the {trait} {job} or the {grim} {barrier}.",
    ),
}

_SHARED: dict[str, tuple[str, ...]] = {
    "It was {a weather} {daypart}.": ("opening", "journey", "rest", "ending"),
    "{Hero} {looked} {how} at {friend}.": ("want", "help", "turn", "ending"),
    "{Hero} sat down {how} beside the {trait} {pet}.": ("opening", "obstacle", "rest"),
    "The {trait} {pet} {looked} {how} at {hero}.": ("obstacle", "help", "turn"),
    "{Hero.they} thought {how} about the {hue} {thing}.": ("want", "journey", "rest"),
    "{Moment}, {hero} {walked} to {a look} {landmark}.": ("opening", "want", "journey"),
    '"I am {sad}," {said} {hero}.': ("want", "obstacle", "rest"),
}

TEMPLATES: dict[str, dict[str, float]] = {
    beat: {
        **dict.fromkeys(_OWN[beat], 1.0),
        **{source: 1.0 for source, beats in _SHARED.items() if beat in beats},
    }
    for beat in BEATS
}
"""Beat -> template -> weight; the shared templates serve several beats."""
