"""Inode numbers: a name keeps its number as long as the file lives; a file made anew gets a new one."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = 1


@dataclass(slots=True)
class Inode:
    """One file of the mount."""

    number: int
    name: str
    lookups: int = 0  # references that the kernel holds
    alive: bool = True  # false once the file is deleted; handles on it stay usable for reading


class Inodes:
    """Names and numbers of the files that the kernel knows."""

    def __init__(self) -> None:
        self._by_name: dict[str, Inode] = {}
        self._by_number: dict[int, Inode] = {}
        self._last = ROOT

    def get(self, number: int) -> Inode:
        """The inode of a number that the kernel was given.

        Raises:
            KeyError: it was forgotten.
        """
        return self._by_number[number]

    def of(self, name: str) -> Inode:
        """The inode of a living file; made if the kernel does not know the name."""
        inode = self._by_name.get(name)
        if inode is None:
            self._last += 1
            inode = self._by_name[name] = self._by_number[self._last] = Inode(self._last, name)
        return inode

    def known(self, name: str) -> Inode | None:
        """The inode of a living file, if the kernel has been told of it."""
        return self._by_name.get(name)

    def delete(self, name: str) -> None:
        """The file is gone: the name may be used for another one."""
        inode = self._by_name.pop(name, None)
        if inode is not None:
            inode.alive = False

    def forget(self, number: int, lookups: int) -> None:
        """The kernel drops references."""
        inode = self._by_number.get(number)
        if inode is None:
            return
        inode.lookups -= lookups
        if inode.lookups <= 0:
            del self._by_number[number]
            if self._by_name.get(inode.name) is inode:
                del self._by_name[inode.name]
