"""Omniglot (Lake, Salakhutdinov, Tenenbaum, Science 2015): 1,623 characters of 50 alphabets, each drawn by 20 people.

Images 28x28, ink 1 on paper 0. Train is the official background set, test the official evaluation set: their characters are
disjoint, so what is learned on one is asked to recognise, group or refuse the other. The natural owners are the 1,000
writers (alphabet, drawer), 14 to 55 images each.
"""

from __future__ import annotations

import numpy as np

from kuberml.learning.datafiles import DataFile, cached, locate
from kuberml.learning.datasets import Dataset, Part

NAME = "omniglot"
_FILE = DataFile("omniglot/omniglot28.npz", "0d9840ac0cd90ee644576a6e33e722a804f963799fb00b8b03c1a6f995dd1bed")
DRAWERS = 20

_BACKGROUND = """Alphabet_of_the_Magi 20; Anglo-Saxon_Futhorc 29; Arcadian 26; Armenian 41; Asomtavruli_(Georgian) 40;
Balinese 24; Bengali 46; Blackfoot_(Canadian_Aboriginal_Syllabics) 14; Braille 26; Burmese_(Myanmar) 34; Cyrillic 33;
Early_Aramaic 22; Futurama 26; Grantha 43; Greek 24; Gujarati 48; Hebrew 22; Inuktitut_(Canadian_Aboriginal_Syllabics) 16;
Japanese_(hiragana) 52; Japanese_(katakana) 47; Korean 40; Latin 26; Malay_(Jawi_-_Arabic) 40; Mkhedruli_(Georgian) 41;
N_Ko 33; Ojibwe_(Canadian_Aboriginal_Syllabics) 14; Sanskrit 42; Syriac_(Estrangelo) 23; Tagalog 17; Tifinagh 55"""
_EVALUATION = """Angelic 20; Atemayar_Qelisayer 26; Atlantean 26; Aurek-Besh 26; Avesta 26; Ge_ez 26; Glagolitic 45;
Gurmukhi 45; Kannada 41; Keble 26; Malayalam 47; Manipuri 40; Mongolian 30; Old_Church_Slavonic_(Cyrillic) 45; Oriya 46;
Sylheti 28; Syriac_(Serto) 23; Tengwar 25; Tibetan 42; ULOG 26"""


def _alphabets() -> list[tuple[str, int]]:
    entries = (entry.strip().rsplit(" ", 1) for entry in f"{_BACKGROUND};{_EVALUATION}".split(";"))
    return sorted((name, int(count)) for name, count in entries)


def _read(split: str) -> Part:
    path = locate(_FILE, NAME)
    with np.load(path, allow_pickle=False) as file:
        mine = file["background"] == (split == "train")
        writer_N = file["alphabet"].astype(np.int32) * DRAWERS + file["drawer"] - 1
        x_N = cached(f"{NAME}-1-{split}-{_FILE.sha256}", lambda: 255 - file["images"][mine][..., None])
        return Part(x_N, file["character"][mine], scale=1 / 255, group_N=writer_N[mine])


DATASET = Dataset(
    name=NAME,
    labels=tuple(f"{alphabet}/character{k:02d}" for alphabet, count in _alphabets() for k in range(1, count + 1)),
    shape=(28, 28, 1),
    read=_read,
    note=(
        "Omniglot (Lake et al. 2015, MIT licence) resized to 28x28: train = the 19,280 background images of 964 characters, "
        "test = the 13,180 evaluation images of 659 other characters."
    ),
    groups=tuple(f"{alphabet}/drawer{k:02d}" for alphabet, _ in _alphabets() for k in range(1, DRAWERS + 1)),
)
