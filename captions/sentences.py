"""The different sentences of captions files in compact arrays, and a report of what is left out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from captions.reader import CaptionsReader

SHORT_NUMBER = 5  # digits; pictures with a shorter number may be different ones in two files


@dataclass
class CaptionsReport:
    """How many lines of a captions file are not used, and why."""

    format: str = ""
    most_words: int = 0  # of a sentence
    lines: int = 0
    empty: int = 0
    duplicates: int = 0
    long: int = 0
    first_long: str = ""  # where it stands
    broken: int = 0
    complaint: str = ""  # about the first row without a caption
    held_out: int = 0  # equal to sentences of a validation or test file, or of their pictures

    @property
    def has_mostly_long(self) -> bool:
        """Whether most lines that are not empty are too long."""
        return self.long > (self.lines - self.empty) / 2

    def __str__(self) -> str:
        first = f" (the first is {self.first_long})" if self.long else ""
        parts = [
            f"{self.lines} lines: {self.empty} empty skipped",
            f"{self.duplicates} duplicates merged",
            f"{self.long} longer than {self.most_words} words left out{first}",
        ]
        if self.broken:
            parts.append(f"{self.broken} without a caption skipped ({self.complaint})")
        if self.held_out:
            parts.append(f"{self.held_out} left out because a file to validate or to test has them or their pictures")
        return ", ".join(parts)


@dataclass
class FileKeys:
    """What divides the n sentences of one file into parts; (n,) uint64 each."""

    hashes: np.ndarray
    groups: np.ndarray  # the hash of the picture, or of the sentence without a picture; no group is in two parts


class SentenceStore:
    """Different sentences of several files. A file adds no sentence of an earlier one, and none of its pictures."""

    def __init__(self, split_line: Callable[[str], list[str]], most_units: int, separator: str) -> None:
        self.split_line = split_line
        self.most_units = most_units  # of a sentence; longer ones are left out
        self.separator = separator  # between two units
        self.index: dict[str, int] = {}  # unit (a word, or a part of a line within which tokens are found): its number
        self.units: list[np.ndarray] = []  # of each file: the units of all its sentences
        self.lengths: list[np.ndarray] = []  # of each file: (n,) uint8
        self.known = np.empty(0, np.uint64)  # hashes of the sentences of all files so far
        self.known_pictures = np.empty(0, np.uint64)

    def read(self, reader: CaptionsReader, report: CaptionsReport) -> FileKeys:
        """Add the sentences of a file, and count in the report what is left out. Raises CaptionsFileError, OSError."""
        units = array("i")
        lengths = array("B")
        hashes = array("Q")
        groups = array("Q")
        pictures: set[int] = set()
        for caption in reader:
            report.lines += 1
            words = self.split_line(caption.text.strip())
            if not words:
                report.empty += 1
            elif caption.cut or len(words) > self.most_units:
                report.long += 1
                where = reader.where(caption, report.lines).removeprefix(f"{reader.path}, ")
                report.first_long = report.first_long or where
            else:
                units.extend([self.index.setdefault(word, len(self.index)) for word in words])
                lengths.append(len(words))
                hashes.append(_hash(self.separator.join(words), b"split"))
                groups.append(hashes[-1] if caption.picture is None else _hash(caption.picture, b"picture"))
                if caption.picture and not (caption.picture.isdecimal() and len(caption.picture) < SHORT_NUMBER):
                    pictures.add(groups[-1])
        report.broken = reader.broken
        report.complaint = reader.complaint
        report.empty -= reader.broken
        keys = FileKeys(np.array(hashes, np.uint64), np.array(groups, np.uint64))
        is_held_out = np.isin(keys.hashes, self.known) | np.isin(keys.groups, self.known_pictures)
        report.held_out = int(is_held_out.sum())
        report.duplicates = int((~is_held_out).sum())
        is_kept, keys = _without_duplicates(keys, is_held_out)
        report.duplicates -= len(keys.hashes)
        lengths = np.array(lengths, np.uint8)
        self.units.append(np.array(units, np.int32)[np.repeat(is_kept, lengths)])
        self.lengths.append(lengths[is_kept])
        self.known = np.concatenate([self.known, keys.hashes])
        self.known_pictures = np.union1d(self.known_pictures, np.fromiter(pictures, np.uint64))
        return keys


def _without_duplicates(keys: FileKeys, is_held_out: np.ndarray) -> tuple[np.ndarray, FileKeys]:
    """Of equal sentences the first is kept, with the least of their groups: the order of lines does not matter.
    -> ((n,) bool, keys of those that are kept)."""
    rows = np.flatnonzero(~is_held_out)
    hashes, first, inverse = np.unique(keys.hashes[rows], return_index=True, return_inverse=True)
    groups = np.full(len(hashes), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(groups, inverse, keys.groups[rows])
    is_kept = np.zeros(len(is_held_out), bool)
    is_kept[rows[first]] = True
    order = np.argsort(first)
    return is_kept, FileKeys(hashes[order], groups[order])


def _hash(text: str, salt: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, salt=salt).digest(), "big")
