# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between releases, in one place."""

from . import syscalls

# minor release: libs, default driver, engine, plugin API, driver API, driver schema
_VERSIONS = {
    33: ("0.9.0", "3.0.1+driver", "15", "2.0.0", "3.0.0", "2.0.0"),
    34: ("0.10.3", "4.0.0+driver", "15", "2.0.0", "3.0.0", "2.3.0"),
    35: ("0.11.2", "5.0.1+driver", "17", "3.0.0", "4.0.0", "2.0.0"),
    36: ("0.13.1", "6.0.1+driver", "26", "3.1.0", "5.0.0", "2.10.0"),
    37: ("0.14.2", "7.0.0+driver", "0.31.0", "3.2.0", "8.0.0", "2.0.0"),
    38: ("0.17.3", "7.2.1+driver", "0.40.0", "3.6.0", "8.0.0", "2.0.0"),
    39: ("0.18.1", "7.3.0+driver", "0.43.0", "3.7.0", "8.0.0", "2.0.0"),
    40: ("0.20.0", "8.0.0+driver", "0.46.0", "3.9.0", "8.0.0", "3.2.0"),
    41: ("0.21.0", "8.1.0+driver", "0.50.0", "3.11.0", "8.0.0", "3.6.0"),
    42: ("0.22.1", "9.0.0+driver", "0.57.0", "3.12.0", "9.0.0", "4.0.0"),
    43: ("0.23.1", "9.1.0+driver", "0.58.0", "3.12.0", "9.0.0", "4.1.0"),
    44: ("0.25.4", "10.2.0+driver", "0.62.0", "3.12.0", "10.0.0", "4.3.0"),
}


class Release:
    def __init__(self, text):
        self.text = text
        parts = [int(part) for part in text.split(".")]
        self.minor = parts[1]
        self.patch = parts[2] if len(parts) > 2 else 0
        if parts[0] != 0 or self.minor not in _VERSIONS:
            raise SystemExit("simulator: no model of Falco %s" % text)

    def since(self, minor, patch=0):
        return (self.minor, self.patch) >= (minor, patch)

    @property
    def versions(self):
        libs, driver, engine, plugin, api, schema = _VERSIONS[self.minor]
        return {
            "falco_version": self.text,
            "libs_version": libs,
            "plugin_api_version": plugin,
            "engine_version": engine.split(".")[1] if "." in engine else engine,
            "engine_version_semver": engine,
            "driver_api_version": api,
            "driver_schema_version": schema,
            "default_driver_version": driver,
        }

    @property
    def state_codes(self):
        codes = set(syscalls.STATE_CODES)
        if self.minor < 44:
            codes -= {"close_range"}
        if self.minor < 42:
            codes |= {"setpgid"}
        if self.minor < 40:
            codes -= {"recvmmsg", "sendmmsg"}
        if self.minor < 39:
            codes -= {"setregid", "setreuid"}
        if self.minor < 36:
            codes -= {"memfd_create", "pidfd_getfd", "pidfd_open"}
        return codes

    @property
    def ignored_codes(self):
        extra = {"recvmmsg", "sendmmsg"} if self.minor < 40 else set()
        return set(syscalls.IO_CODES) | extra

    @property
    def engine_kinds(self):
        kinds = ["kmod", "modern_ebpf", "replay", "nodriver"]
        return kinds if self.minor >= 44 else kinds + ["ebpf", "gvisor"]

    @property
    def events_factor(self):
        """Enter events, gone since 0.42, doubled the stream."""
        return 1.0 if self.minor >= 42 else 1.93
