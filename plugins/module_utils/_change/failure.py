# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a change fails."""


class Failed(Exception):
    """A step of a change did not work; the text says which and why, and what to do.

    more: what the module's answer says beside the text, such as undone=True.
    """

    def __init__(self, msg, **more):
        super().__init__(msg)
        self.more = more
