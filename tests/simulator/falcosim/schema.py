# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema check of 0.39 and later: never fatal, and only its first complaint is shown."""

from . import yamltext

_B, _I, _N, _S, _ANY = "boolean", "integer", "number", "string", "object"
_TYPE = "Value type not permitted by 'type' constraint."
_UNKNOWN = "Object contains a property that could not be validated using 'properties' or 'additionalProperties' constraints: '%s'."


def _keys(kind, names):
    return dict.fromkeys(names.split(), kind)


def _table(release):
    engine = {
        "kind": _S,
        "kmod": {"buf_size_preset": _I, "drop_failed_exit": _B},
        "modern_ebpf": {"cpus_for_each_buffer": _I, "buf_size_preset": _I, "drop_failed_exit": _B},
        "replay": {"capture_file": _S, "!": ("capture_file",)},
        "!": ("kind",),
    }
    able = {"rule": _S, "tag": _S}
    metrics = dict(
        _keys(_B, "enabled output_rule rules_counters_enabled resource_utilization_enabled state_counters_enabled "
                  "kernel_event_counters_enabled kernel_event_counters_per_cpu_enabled libbpf_stats_enabled "
                  "plugins_metrics_enabled convert_memory_to_mb include_empty_values"),
        interval=_S, output_file=_S)
    libs = {"thread_table_size": _I}
    table = dict(
        _keys(_B, "buffered_outputs json_include_output_property json_include_tags_property json_output log_stderr "
                  "log_syslog time_format_iso_8601 watch_config_files"),
        append_output=[_ANY],
        base_syscalls={"custom_set": [_S], "repair": _B},
        config_files=["file"],
        engine=engine,
        falco_libs=libs,
        file_output={"enabled": _B, "keep_alive": _B, "filename": _S},
        http_output=dict(
            _keys(_S, "ca_bundle ca_cert ca_path client_cert client_key url user_agent"),
            **_keys(_B, "enabled compress_uploads echo insecure keep_alive mtls")),
        libs_logger={"enabled": _B, "severity": _S},
        load_plugins=[_S],
        log_level=_S,
        metrics=metrics,
        output_timeout=_I,
        outputs_queue={"capacity": _I},
        plugins=[{"name": _S, "library_path": _S, "init_config": None, "open_params": _S, "!": ("library_path", "name")}],
        priority=_S,
        program_output={"enabled": _B, "keep_alive": _B, "program": _S, "!": ("program",)},
        rule_matching=_S,
        rules=[{"enable": able, "disable": able}],
        rules_files=[_S],
        stdout_output={"enabled": _B},
        syslog_output={"enabled": _B},
        syscall_event_drops={"threshold": _N, "actions": [_S], "rate": _N, "max_burst": _I, "simulate_drops": _B},
        syscall_event_timeouts={"max_consecutives": _I},
        webserver=dict(
            _keys(_S, "k8s_healthz_endpoint listen_address ssl_certificate"),
            **dict(_keys(_I, "listen_port threadiness"), **_keys(_B, "enabled prometheus_metrics_enabled ssl_enabled"))),
    )
    table["http_output"]["max_consecutive_timeouts"] = _I
    if release.since(39):
        table["json_include_message_property"] = _B
    if release.minor < 44:
        engine["ebpf"] = {"probe": _S, "buf_size_preset": _I, "drop_failed_exit": _B}
        engine["gvisor"] = {"config": _S, "root": _S}
        table["grpc"] = dict(_keys(_S, "bind_address private_key cert_chain root_certs"), enabled=_B, threadiness=_I)
        table["grpc_output"] = {"enabled": _B}
    if release.minor < 41:
        table["container_engines"] = _ANY
        table["rules_file"] = [_S]
    if release.since(40):
        table["base_syscalls"]["all"] = _B
        libs["snaplen"] = _I
        metrics["jemalloc_stats_enabled"] = _B
        table["plugins_hostinfo"] = table["buffer_format_base64"] = _B
    if release.since(41):
        table["json_include_output_fields_property"] = _B
    if release.since(42):
        table["capture"] = {"enabled": _B, "path_prefix": _S, "mode": _S, "default_duration": _I}
        table["static_fields"] = _ANY
        libs["thread_table_auto_purging_interval_s"] = libs["thread_table_auto_purging_thread_timeout_s"] = _I
    if release.since(44):
        table["capture"]["max_file_size_mb"] = _I
        metrics["kernel_iter_event_counters_enabled"] = _B
    if release.since(44, 1):
        engine["modern_ebpf"]["disable_iterators"] = _B
    return table


def _check(value, spec, where):
    if spec is None:
        return None
    if isinstance(spec, dict):
        if not isinstance(value, dict):
            return where, _TYPE
        for key, item in value.items():
            if key in spec:
                found = _check(item, spec[key], "%s[%s]" % (where, key))
                if found:
                    return found
        if getattr(value, "duplicates", False):
            return where, _UNKNOWN % ""
        for key in value:
            if key not in spec:
                return where, _UNKNOWN % key
        for key in spec.get("!", ()):
            if key not in value:
                return where, "Missing required property '%s'." % key
        return None
    if isinstance(spec, list):
        if not isinstance(value, list):
            return where, _TYPE
        for index, item in enumerate(value):
            found = _check(item, spec[0], "%s[%d]" % (where, index))
            if found:
                return found
        return None
    if spec == _ANY:
        fits = isinstance(value, dict)
    elif spec == "file":
        fits = isinstance(value, str) or (
            isinstance(value, dict) and "path" in value
            and value.get("strategy", "append") in ("append", "override", "add-only"))
    elif not isinstance(value, str):
        fits = False
    elif spec == _B:
        fits = yamltext.as_bool(value, None) is not None
    elif spec == _I:
        fits = yamltext.as_int(value, None, -(1 << 63), 1 << 63) is not None
    elif spec == _N:
        fits = yamltext.as_float(value, None) is not None
    else:
        fits = True
    return None if fits else (where, _TYPE)


def first_complaint(root, release):
    """None, or `failed for <where>: <what>` as Falco words it."""
    found = _check(root, _table(release), "<root>")
    return None if found is None else "failed for %s: %s" % found
