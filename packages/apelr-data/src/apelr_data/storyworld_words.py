"""The storyworld's vocabulary: who and what a story can be about, and the fillers of its local slots."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


_SHE = {"they": "she", "them": "her", "their": "her", "child": "girl"}
_HE = {"they": "he", "them": "him", "their": "his", "child": "boy"}

ENTITIES: dict[str, tuple[dict[str, str], ...]] = {
    "hero": (
        *({"name": name, **_SHE} for name in ("Mia", "Lily", "Anna")),
        *({"name": name, **_HE} for name in ("Tom", "Ben", "Sam")),
    ),
    "friend": (
        *({"name": name, **_SHE} for name in ("Nora", "Clara")),
        *({"name": name, **_HE} for name in ("Max", "Hugo")),
    ),
    "pet": tuple({"name": name} for name in ("dog", "cat", "goat", "pony")),
    "thing": tuple({"name": name} for name in ("kite", "lantern", "drum", "sled", "umbrella")),
    "hue": tuple({"name": name} for name in ("red", "blue", "green", "orange")),
    "place": (
        {"name": "village", "at": "in the village"},
        {"name": "valley", "at": "in the valley"},
        {"name": "island", "at": "on the island"},
        {"name": "harbour", "at": "by the harbour"},
    ),
    "barrier": tuple({"name": name} for name in ("river", "wall", "swamp", "hedge")),
    "beast": tuple({"name": name} for name in ("wolf", "bear", "troll", "ogre")),
}
"""Bound slots: each story picks one entity for each and keeps it. The hue is the colour of the thing."""

FILLERS: dict[str, tuple[str, ...]] = {
    # People and animals.
    "trait": _words("kind brave clever shy gentle curious modest cheerful quiet patient wise funny"),
    "relative": _words("mother father aunt uncle sister brother grandmother grandfather"),
    "job": _words("baker farmer sailor miller weaver doctor potter gardener smith tailor painter hunter"),
    "animals": _words("cows sheep horses hens geese rabbits deer swans crows mice"),
    "fur": _words("brown black white grey spotted golden striped woolly"),
    # Feelings and manners.
    "sad": _words("sad tired afraid angry worried lonely upset hungry nervous weary cross ashamed"),
    "glad": _words("happy proud glad grateful merry joyful cheerful thankful delighted pleased lucky safe"),
    "how": _words("slowly quickly quietly carefully gently bravely calmly eagerly softly kindly proudly happily"),
    "sadly": _words("sadly glumly weakly angrily bitterly gloomily nervously crossly"),
    # Looks of things.
    "colour": _words("red blue green yellow white black orange purple golden silver"),
    "look": _words("tiny big old little odd plain dusty heavy new pretty round empty"),
    "grim": _words("huge dark wet cold ugly wild strange gloomy nasty dreadful awful scary"),
    # Places, time and weather.
    "landmark": _words("mill bridge well barn church tower orchard garden inn castle market cottage"),
    "rock": _words("rock log bush stump tree stone cart fence"),
    "along": _phrases(
        "along the road, through the woods, across the fields, over the hills, down the lane, up the path, "
        "under the trees, round the pond"
    ),
    "moment": _phrases(
        "at dawn, at noon, at sunset, that morning, that evening, before supper, after breakfast, late that day"
    ),
    "daypart": _words("morning afternoon evening day"),
    "weather": _words("warm cold windy rainy sunny foggy snowy cloudy bright grey"),
    "sky": _words("stars clouds bats owls leaves moths"),
    # Goods and numbers.
    "food": _words("bread cheese soup apples honey milk cake pears nuts berries rice beans"),
    "garment": _words("hat coat scarf cloak belt bag cap shawl"),
    "tool": _words("rope ladder hammer plank shovel lamp stick net map axe"),
    "chest": _words("chest box barrel trunk cupboard sack crate basket"),
    "number": _words("two three four five six seven eight nine ten twelve"),
    # Openers and actions, all in the past tense.
    "suddenly": _phrases("then, suddenly, soon, all at once"),
    "luckily": _phrases("luckily, happily, just then, at last"),
    "walked": _words("walked marched hiked wandered travelled hurried"),
    "said": _words("said answered whispered murmured replied added"),
    "looked": _words("looked smiled stared nodded glanced blinked"),
    "shook": _words("trembled shook shivered cried froze moaned"),
    "worked": _words("pushed pulled dug climbed worked waited"),
    "danced": _words("danced sang laughed feasted talked cheered"),
}
"""Local slots: one filler, each equally likely, is drawn at every use."""
