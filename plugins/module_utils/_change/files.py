# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a change: staged where they can be renamed from, swapped, put back. Sysctls are files too."""

import base64
import errno
import os
import shutil

from ansible_collections.falcotune.fleet.plugins.module_utils._change import attributes, records
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, renames


class Item:
    """One file of the change.

    old: what is there, with old_meta: [mode, uid, gid]; None without one. new: what will be; None removes it.
    """

    def __init__(self, path, new, mode=None):
        self.path = path
        self.new = new
        self.mode = mode
        self.owner = None  # [uid, gid] of a file that was not there; None: of this process
        self.old = None
        self.old_meta = None
        try:
            with host.regular(path) as stream:
                self.old = stream.read()
                found = os.fstat(stream.fileno())
            self.old_meta = [found.st_mode & 0o7777, found.st_uid, found.st_gid]
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise Failed("%s can't be read: %s; run with become" % (path, error.strerror))

    @property
    def changed(self):
        return self.old != self.new

    def target(self):
        """The file behind a symbolic link: a link stays a link."""
        return os.path.realpath(self.path)

    def entry(self, staged, old_links):
        """Plain data for the journal: 'path', 'staged', 'old_meta', 'old' (base64), 'old_link', 'new_sha256'.

        staged, old_links: {path: name}, as stage() and keep_old() make them.
        """
        return {
            "path": self.path,
            "staged": staged.get(self.path),
            "old_meta": self.old_meta,
            "old": base64.b64encode(self.old).decode("ascii") if self.old is not None else None,
            "old_link": old_links.get(self.path),
            "new_sha256": host.digest(self.new) if self.new is not None else None,
        }


# -- before the stop


def stage_places(items, state_dir, token):
    """The folders that stage() may make."""
    folders = {os.path.dirname(os.path.dirname(item.target())) for item in items}
    return [os.path.join(folder, ".falcotune-%s" % token) for folder in sorted(folders | {state_dir})]


def stage_folder(folder, state_dir, token):
    """A directory on the same file system as `folder`, outside anything that Falco reads or watches.

    Even a sub-directory made in config.d would begin a hot reload.
    """
    device, mount = os.stat(folder).st_dev, host.mount_of(folder)
    for base in (state_dir, os.path.dirname(folder)):
        if os.stat(base).st_dev == device and host.mount_of(base) == mount:
            name = os.path.join(base, ".falcotune-%s" % token)
            if not os.path.isdir(name):
                os.mkdir(name, 0o700)
            return name
    raise Failed(
        "%s is on a file system or bind mount of its own: a file can't be renamed into it from %s or %s, so "
        "it can't be swapped atomically; set falco_tune_state_dir to a directory on that mount"
        % (folder, state_dir, os.path.dirname(folder))
    )


def write_staged(name, data, mode, owner, extended=None):
    """Write a complete file to disk under a name that nobody reads.

    owner: [uid, gid], or None. extended: {name: value} of its extended attributes, ACL and label among them.
    """
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        if owner:
            os.fchown(stream.fileno(), owner[0], owner[1])
        for attribute, value in sorted((extended or {}).items()):
            attributes.put(stream.fileno(), attribute, value)
        # After the ACL, whose mask it sets.
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def stage(items, state_dir, token):
    """Write every new file to where it can be renamed from. ({path: staged name}, [folders])."""
    staged, folders = {}, []
    try:
        for number, item in enumerate(items):
            try:
                target = item.target()
                folder = stage_folder(os.path.dirname(target), state_dir, token)
                if folder not in folders:
                    folders.append(folder)
                if item.new is None:
                    continue
                name = os.path.join(folder, "%d" % number)
                if item.old_meta:
                    mode, owner, extended = item.old_meta[0], item.old_meta[1:], attributes.of(target)
                else:
                    mode, owner, extended = item.mode, item.owner, attributes.of_new(target)
                write_staged(name, item.new, mode, owner, extended)
            except OSError as error:
                raise Failed("%s can't be written: %s; nothing was changed" % (item.path, error.strerror))
            staged[item.path] = name
        return staged, folders
    except BaseException:
        unstage(folders)
        raise


def keep_old(items, state_dir, token, links=True):
    """Every file that will be replaced or removed, under a second name in the stage folder: undoing is then a
    rename, which needs no room. → {path: name}. Raises Failed.

    links: as hard links, so that the old file itself comes back. A file system without them, and links=False,
    gets a copy with the same owner, mode, ACL, extended attributes and SELinux label.
    """
    names, folders = {}, set()
    for number, item in enumerate(items):
        if item.old is None:
            continue
        target = item.target()
        try:
            folder = stage_folder(os.path.dirname(target), state_dir, token)
            name = os.path.join(folder, "%d.old" % number)
            if not (links and _linked(target, name)):
                write_staged(name, item.old, item.old_meta[0], item.old_meta[1:], attributes.of(target))
        except OSError as error:
            raise Failed("%s can't be kept: %s; nothing was changed" % (item.path, error.strerror))
        names[item.path] = name
        folders.add(folder)
    for folder in folders:
        records.sync_folder(folder)
        records.sync_folder(os.path.dirname(folder))
    return names


def _linked(target, name):
    try:
        os.link(target, name)
        return True
    except OSError:
        return False


def unstage(folders):
    """Remove folders, on disk too: a journal that speaks of them may go then."""
    for folder in folders:
        if os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
            records.sync_folder(os.path.dirname(folder))


def check_writable(items):
    """Raise Failed where a swap can't work: an immutable file, a read-only file system.

    Asked with access(2), which knows both: opening a watched file for writing would begin a hot reload.
    """
    for item in items:
        path = item.target()
        for name in (path, os.path.dirname(path)):
            if os.path.exists(name) and not os.access(name, os.W_OK):
                advice = (
                    "is it immutable (lsattr) or on a read-only file system?"
                    if os.geteuid() == 0
                    else "run with become"
                )
                raise Failed(
                    "%s can't be replaced: %s is not writable: %s; nothing was changed"
                    % (item.path, name, advice)
                )


def missing_parents(items):
    """Folders that are not there and must be made for files, such as a unit's drop-in's."""
    folders = [os.path.dirname(item.target()) for item in items if item.new is not None]
    return [
        folder
        for number, folder in enumerate(folders)
        if not os.path.isdir(folder) and folder not in folders[:number]
    ]


def make_parents(folders):
    for folder in folders:
        os.mkdir(folder, 0o755)
        records.sync_folder(os.path.dirname(folder))


# -- after it. entries: as Item.entry() made them.


def digest_of(path):
    """sha256 of a file, None where there is none. Raises OSError."""
    try:
        with host.regular(path) as stream:
            return host.digest(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _old_digest(entry):
    return None if entry["old"] is None else host.digest(base64.b64decode(entry["old"]))


def swapped(entries):
    """Whether any file has been renamed to its place, or removed."""
    return any(
        not os.path.exists(entry["staged"]) if entry["staged"] else not os.path.lexists(entry["path"])
        for entry in entries
    )


def all_new(entries):
    """Whether every file is the one that this change wrote, or gone where it removed it. Raises OSError."""
    return all(digest_of(os.path.realpath(entry["path"])) == entry["new_sha256"] for entry in entries)


def swap(entries):
    """Put every staged file in its place. Every file is complete and on disk already.

    The renames themselves are on disk after sync() only: Falco need not wait for that. Raises Failed where a
    file is not the one that was read: somebody else has changed it meanwhile. Sets 'reached' of an entry
    once its file may be the new one.
    """
    for entry in entries:
        target = os.path.realpath(entry["path"])
        entry["reached"] = True  # before the rename: an error after it leaves the new file there
        if not _swapped_one(entry, target):
            entry["reached"] = False
            raise Failed(
                "%s was changed by somebody else while this change was made: it was left as it is; run again"
                % entry["path"]
            )


def unreached(entries):
    """None of these has been swapped yet, for a restore() in the same process."""
    for entry in entries:
        entry["reached"] = False


def without_reached(entries):
    """The entries as the journal has them: a file may be swapped after the journal's last write."""
    return [{name: value for name, value in entry.items() if name != "reached"} for entry in entries]


def sync(entries):
    """Make renames survive a power cut."""
    for folder in sorted({os.path.dirname(os.path.realpath(entry["path"])) for entry in entries}):
        records.sync_folder(folder)


def _swapped_one(entry, target):
    """Whether the file that was read has made way; False where a third party's is there, and stays."""
    if digest_of(target) != _old_digest(entry):
        return False
    if entry["staged"] is None:
        return entry["old"] is None or _taken_out(target, _old_digest(entry), entry.get("old_link"))
    return _put(entry["staged"], target, _old_digest(entry), entry.get("old_link"))


def _put(name, target, expected, kept=None):
    """Give a file its place, where one with this digest is, or none. False where there is another one.

    A file that appears between the comparison and the rename is not lost: the two are exchanged, what comes
    out is compared again, and goes back. kept: a second name of what is replaced.
    """
    if expected is None:
        try:
            renames.move(name, target)
        except FileExistsError:
            return False
        return True
    ours = digest_of(name)
    if not renames.exchange(name, target):
        os.rename(name, target)
        return True
    if digest_of(name) == expected:
        if kept:
            os.unlink(name)
        return True
    renames.exchange(name, target)
    if digest_of(name) != ours:
        # Its author has written again, into our file: his last word stays.
        renames.exchange(name, target)
    return False


def _taken_out(target, expected, kept):
    """Remove a file with this digest. False where another one is there: it stays."""
    if not kept:
        os.unlink(target)
        return True
    name = kept + ".out"
    os.rename(target, name)
    if digest_of(name) == expected:
        os.unlink(name)
        return True
    try:
        renames.move(name, target)
    except FileExistsError:
        pass  # its author has written a newer one
    return False


def restore(entries, state_dir, token):
    """Put the previous files back, whatever was swapped so far. Every file is tried. → paths that somebody
    else has changed.

    Those are neither the previous file nor ours, and are left as they are. Raises Failed where a file can't
    be put back.
    """
    foreign, failed = [], []
    for entry in entries:
        try:
            if not _restored(entry, state_dir, token):
                foreign.append(entry["path"])
        except (OSError, Failed) as error:
            failed.append(
                "%s can't be put back: %s" % (entry["path"], getattr(error, "strerror", None) or error)
            )
    if failed:
        raise Failed("; ".join(failed))
    return foreign


def _restored(entry, state_dir, token):
    """Whether the previous file is at its place now; False where a third party's is."""
    target = os.path.realpath(entry["path"])
    now, link = digest_of(target), entry.get("old_link")
    if now == _old_digest(entry):
        return True
    # Without the second test, a file that somebody else has removed looks like one that this change removed.
    # The journal does not have the key: the file is put back then.
    if now != entry["new_sha256"] or entry.get("reached") is False:
        return False
    if entry["old"] is None:
        folder = stage_folder(os.path.dirname(target), state_dir, token)
        done = _taken_out(target, now, os.path.join(folder, "restore"))
    else:
        if not link or not os.path.exists(link):
            link = os.path.join(stage_folder(os.path.dirname(target), state_dir, token), "restore")
            # The new file has what the old one had.
            extended = attributes.of_new(target) if now is None else attributes.of(target)
            write_staged(
                link, base64.b64decode(entry["old"]), entry["old_meta"][0], entry["old_meta"][1:], extended
            )
        done = _put(link, target, now)
    records.sync_folder(os.path.dirname(target))
    return done


def make_directories(folders, owner):
    """Make those that are not there. owner: [uid, gid] of Falco."""
    for folder in folders:
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o750)
            _own_directory(folder, owner)
            # On disk before the configuration that needs it: Falco exits where it is missing.
            records.sync_folder(os.path.dirname(folder))


def _own_directory(folder, owner):
    """Give away the directory that was just made, and nothing else: others may write to the one around it
    (/var/log is syslog's group's in Ubuntu) and put a link in its place. Raises OSError.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise OSError(errno.EPERM, "somebody else has made it meanwhile", folder)
        os.fchown(handle, owner[0], owner[1])
    finally:
        os.close(handle)


def remove_directories(folders):
    """Remove those that are empty, the last one first."""
    for folder in reversed(folders):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # Falco's metrics are in it


def sysctl(root, name):
    """The value of a sysctl, '' where there is none of this name."""
    return (host.read(sysctl_path(root, name)) or "").strip()


def sysctl_path(root, name):
    return "%s/proc/sys/%s" % (root, name.replace(".", "/"))


def check_sysctls(root, names):
    """Raise Failed where a sysctl can't be written, before anything is touched."""
    for name in names:
        path = sysctl_path(root, name)
        if not os.access(path, os.W_OK):
            raise Failed(
                "%s is not writable, and policy sets %s (falco_tune_bpf_stats); nothing was changed"
                % (path, name)
            )


def write_sysctls(root, values):
    """Best effort, as no proof depends on them. → a sentence for each that could not be written."""
    failed = []
    for name, value in sorted(values.items()):
        try:
            with open(sysctl_path(root, name), "w") as stream:
                stream.write("%s\n" % value)
        except OSError as error:
            failed.append("sysctl %s = %s could not be set: %s" % (name, value, error.strerror))
    return failed
