# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shapes of what one part of the collection hands to the next.

Host → Facts → Plan → Request → Evidence → Report. Everything here is plain data that JSON can hold. Sizes are
bytes, times are seconds (Unix time where a key is called ``at``, ``since``, ``began`` or ``ended``), shares
are percent; keys with other units say so in their name.

Facts are made by _tuning/assembly.py, which fills in every key, so readers need not guard against missing
parts: what a host could not tell is None, an empty list or an empty dict. The other makers are named at each
type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    # ansible-core 2.16 imports plugins with Python 3.10 too, whose typing has no NotRequired.
    from typing import NotRequired

Json = Any
"""What JSON can hold, where the shape is not the collection's own."""
Policy = dict[str, Any]
"""A complete policy, as _tuning/policies.complete() returns it: each key of policies.OPTIONS."""

# kmod, ebpf, modern_ebpf, none (the syscall source is disabled), or another engine (replay, gvisor, nodriver)
DriverKind = str
State = Literal["blind", "dropping", "overloaded", "unmeasured", "no_syscalls", "acceptable", "healthy"]
StepName = Literal["priority", "quota", "buffers", "give_back", "syscalls"]

ChangeKind = Literal[
    "config",  # a key of Falco's configuration, dotted
    "unit",  # a line of our drop-in of Falco's unit
    "file",  # a file outside Falco's own, by path
    "directory",  # a directory that is made, by path
    "sysctl",  # a kernel parameter
    "running",  # Falco runs with an older configuration than the one on disk
    "record",  # Falco is proven again with what is there already
    "staged",  # a change that is kept on the host until a restart is allowed
    "unfinished",  # a change or trial that was interrupted
]
CHANGE_KINDS: tuple[ChangeKind, ...] = (
    "config",
    "unit",
    "file",
    "directory",
    "sysctl",
    "running",
    "record",
    "staged",
    "unfinished",
)

DisabledBy = Literal["rules", "priority", "selection", "skipped", "error", "falco"]
"""What keeps a rule from being evaluated: its file, Falco's `priority` or `rules`, an unknown event
that it may be skipped for, an error in it, or what Falco itself printed."""

EvidenceBasis = Literal["counters", "process"]
EVIDENCE_BASES: tuple[EvidenceBasis, ...] = ("counters", "process")
"""What a proof rests on: event counters that moved, or only a process that stayed up."""

# --- Facts: _tuning/assembly.assemble()


class CpuTime(TypedDict):
    """All of Falco's threads: on a CPU, waiting for one, throttled by a quota. None where nothing counts
    it."""

    on: float | None
    waiting: float | None
    throttled: float | None


class ReaderTime(TypedDict):
    """The thread that reads events, which is the busiest: percent of the time between two looks, and seconds
    since its start."""

    on: float | None
    waiting: float | None
    total_on: float | None
    total_waiting: float | None


class CpuUse(CpuTime):
    """Percent of one CPU between two looks; ``total`` holds seconds since the start of the process."""

    seconds: float | None
    total: CpuTime | None
    reader: ReaderTime
    reason: str | None
    look: str | None  # which looks, where an audit compared two; else None


class MappedRings(TypedDict):
    driver: str
    bytes_each: int
    count: int


class FalcoFacts(TypedDict):
    version: str | None
    reason: str | None
    warning: str | None
    binary: str
    running: bool
    pid: int | None
    since: float | None
    age: float | None
    start_ticks: int | None
    restarts: int | None
    nice: int | None
    rings: MappedRings | None
    cpu: CpuUse


class UnitLimits(TypedDict):
    cpu_quota: float | None  # percent of one CPU
    cpu_weight: int | None
    nice: int | None
    memory_max: int | None


class Sandbox(TypedDict):
    private_tmp: bool
    protect_system: str
    read_write_paths: list[str]


class Cgroup(TypedDict):
    weight: int | None
    weighable: bool
    throttled: float | None


class Service(TypedDict):
    manager: str | None
    unit: str | None
    reason: str | None
    state: str | None
    exec_start: list[str]
    user: str | None
    group: str | None
    limits: UnitLimits
    sandbox: Sandbox
    cgroup: Cgroup


class Cpus(TypedDict):
    online: int | None
    possible: int | None
    list: str | None
    reason: str | None


class Kernel(TypedDict):
    release: str | None
    btf: bool | None
    bpf_stats_enabled: int | None
    autogroup: bool
    page_size: int


class Memory(TypedDict):
    """total and available of the host; limit is the smallest of the unit and its slices, used its
    MemoryCurrent."""

    total: int | None
    available: int | None
    limit: int | None
    used: int | None


class Driver(TypedDict):
    kind: DriverKind | None
    decided_by: str


class ConfigFile(TypedDict):
    path: str
    sha256: str | None
    entry: int  # number of the entry of config_files that names it; -1: the main file
    strategy: str | None
    keys: list[str]


class ConfigFolder(TypedDict):
    path: str
    strategy: str | None
    entry: int


class Config(TypedDict):
    reason: str | None  # why Falco's configuration could not be read; the rest is empty then
    layout: Literal["dropin", "full"] | None
    order: list[str]
    files: list[ConfigFile]
    folders: list[ConfigFolder]
    options: list[str]
    effective: dict[str, Any]
    raw: dict[str, Any]
    origin: dict[str, str]
    duplicates: list[list[Any]]  # [path, key, line]
    merge_keys: list[str]  # dotted paths of keys named <<, which Falco does not merge
    commented: list[str]  # top-level keys of the main file whose blocks hold comments
    plugins: list[str]  # names of the plugins that Falco loads; their configuration is not kept
    added_fields: list[str]  # fields that append_output or -p adds to every alert
    watch: bool | None
    stale: str | None


class SinceStart(TypedDict):
    seconds: float
    events: int
    drops: int


class KernelCost(TypedDict):
    run_time_ns: int
    percent: float | None
    ns_per_event: float | None
    syscalls: int | None


class Losing(TypedDict):
    """The intervals between snapshots in which most events were lost: a part of a window, with at least most
    of its drops.

    longest: of these intervals, seconds. most: lost events of one interval. intervals: how many of the
    window's intervals lost events, and of how many.
    """

    seconds: float
    events: int
    drops: int
    longest: float
    most: int
    intervals: list[int]


class LosingCpus(TypedDict):
    """CPUs whose events were lost. worst: [CPU, lost events] of those that lost most."""

    count: int
    worst: list[list[int]]


class Window(TypedDict):
    """What Falco counted between two snapshots: _tuning/windows.window(), which explains each key."""

    source: str | None
    basis: str | None
    voided: str | None
    seconds: float | None
    age: float | None
    cpus: int | None
    enter_events: bool | None
    events: int | None
    drops: int | None
    drops_percent: float | None
    rate: float | None
    rate_per_cpu: float | None
    drop_rate: float | None
    engine_rate: float | None
    drops_by_category: dict[str, int]
    falco_cpu_percent: float | None
    falco_cpu_error: float | None
    outputs_queue_drops: int | None
    userspace: dict[str, int]
    kernel: KernelCost | None
    memory: dict[str, int]
    since_start: SinceStart | None
    losing: Losing | None
    losing_cpus: LosingCpus | None
    ruleset: str | None
    snapshot: dict[str, Any] | None


class Read(TypedDict):
    """One field as a rule reads it: _rules/reads.py.

    field: its name; the argument of evt.arg[…] and evt.rawarg[…] is appended (evt.arg.name). negated: a
    missing or wrong value can make the condition true. tail: only the end of the value is compared.
    """

    field: str
    place: str  # condition, output
    negated: bool
    tail: bool


class Reads(TypedDict):
    """What a rule reads.

    kinds: {operand: kinds of descriptors for which the condition can hold}. An operand that the condition
    does not restrict is absent. required: operands without whose value the condition never holds.
    """

    fields: list[Read]
    kinds: dict[str, list[str]]
    required: list[str]


class Rule(TypedDict):
    """One rule as Falco has loaded it (_rules/listing.py), or as _rules/ruleset.py resolves it from files.

    events: names of the events that it needs, as Falco prints them. kernel: the same in the kernel's names.
    other_events: those of Falco's own (container …). restricted: False where it needs all events.
    """

    name: str
    source: str
    priority: str
    tags: list[str]
    file: str | None
    line: int | None
    enabled: bool
    disabled_by: DisabledBy | None
    events: list[str]
    kernel: list[str]
    other_events: list[str]
    restricted: bool
    reads: Reads


class RuleNeed(TypedDict):
    """by_source: the events of the rule come from the plugin; else it reads fields of the plugin."""

    rule: str
    why: str
    by_source: bool


class PluginNeed(TypedDict):
    """What a loaded plugin is needed for: _rules/plugin_needs.py.

    disabled: rules that are not enabled. settings: its fields that append_output or -p names. required: a
    rules file names it in required_plugin_versions, without an alternative that is loaded. outputs: number of
    rules to whose outputs Falco adds its fields, though they do not need it.
    """

    plugin: str
    rules: list[RuleNeed]
    disabled: list[RuleNeed]
    settings: list[str]
    required: bool
    outputs: int


class Finding(TypedDict):
    """A problem of rules files or of Falco's settings for rules. An error keeps Falco from starting."""

    level: Literal["error", "warning"]
    # error: syntax, unknown_event. warning: no_evttype, many_events, illegal_name, dead, ignored_io, evt_dir,
    # selection, unreadable
    kind: str
    file: str | None
    line: int | None
    rule: str | None
    text: str


class ResolvedRules(TypedDict):
    """_rules/ruleset.resolve(). ok: False where Falco would not start with these files."""

    rules: list[Rule]
    findings: list[Finding]
    ok: bool


class ListedRules(ResolvedRules):
    """_rules/listing.parse(). reason: why there are no rules, or None."""

    reason: str | None


class LoadedRules(TypedDict):
    """What falco_facts with ``rules`` brings; reason says what is missing. digest: of what Falco listed.
    audit: the heaviest rules and the findings, without line numbers, which Falco does not list."""

    rules: list[Rule]
    selected: list[str]
    profile: dict[str, Any] | None
    reason: str | None
    digest: NotRequired[str | None]
    audit: NotRequired[RulesAudit | None]
    plugins: NotRequired[list[PluginNeed]]


class Attempt(TypedDict):
    """A step that was taken on this host, as its record keeps it."""

    at: float
    step: StepName
    to: dict[str, Any]
    release: str
    before: Before | None
    rolled_back: bool
    predicted: NotRequired[float]  # percent that was expected to be lost after it
    calls: NotRequired[float]  # system calls a second on the host, where the kernel counted them
    # What `to` replaced, where that can be taken back. Of steps of the system calls also the share of the
    # watched calls that each made then.
    replaced: NotRequired[dict[str, Any]]
    # Steps without effect that the same change took back.
    undoes: NotRequired[list[StepName]]
    profile: NotRequired[dict[str, float]]
    coverage: NotRequired[dict[str, Any] | None]  # _tuning/sight.digest()


class Before(TypedDict):
    """What was measured before a change: _tuning/effects.measured().

    demand, losing_percent: events a second, and percent of them that were lost, in the time in which events
    are lost. None where the capacity model did not tell.
    """

    state: State
    drops_percent: float | None
    rate_per_cpu: float | None
    bottleneck: str
    demand: float | None
    losing_percent: float | None


class StepOutcome(TypedDict):
    """What a step came to on one host: _tuning/twins.py.

    against: the bottleneck before it. to: a digest of the values that it set. preset: of the ring buffers,
    where it set that. demand, rate_per_cpu: the load before it. error: how far what was lost since is from
    what was predicted, percentage points.
    """

    at: float
    step: StepName
    against: str
    to: str
    preset: int | None
    demand: float | None
    rate_per_cpu: float | None
    worked: bool
    error: float | None


class Record(TypedDict):
    """What the host remembers of its last proven state (module_utils/_change/records.summary())."""

    proven: bool
    at: float | None
    files: dict[str, str]
    evidence: dict[str, Any]
    version: str | None
    driver: str | None
    before: Before | None
    written: list[str]
    attempts: list[Attempt]


class Unfinished(TypedDict):
    phase: str | None
    at: float | None


class Staged(TypedDict):
    digest: str | None
    at: float | None


class HostState(TypedDict):
    """The rest of the host: what is on disk of ours, and what its record says."""

    metrics_dir_exists: bool
    files: dict[str, str | None]  # hashes as they are now, None for a file that is gone
    unit_dropin: dict[str, str]
    record: Record | None
    unfinished: Unfinished | None
    staged: Staged | None


class Facts(TypedDict):
    falco: FalcoFacts
    service: Service
    driver: Driver
    config: Config
    metrics: Window
    cpus: Cpus
    kernel: Kernel
    memory: Memory
    host: HostState
    syscalls: LoadedRules | None
    clock: float | None  # the host's, in seconds of the epoch, when the facts were gathered


# --- Verdict: _tuning/verdicts.judge()


class Cost(TypedDict):
    falco_cpu_percent: float | None
    falco_wait_percent: float | None
    kernel_percent: float | None
    memory_bytes: int | None


class Lost(TypedDict):
    """Lost events by what would save them, percent of all events. They add up to the loss.

    bursts: larger ring buffers. quota: no CPU quota. waiting: a CPU of its own (priority). overload: only
    fewer or cheaper events.
    """

    bursts: float
    quota: float
    waiting: float
    overload: float


class Capacity(TypedDict):
    """What the thread that reads events had to do, and what it can do: _tuning/capacity.py.

    demand: events produced a second while events were lost. capacity: events a second that it takes in on
    a whole CPU. factor: CPUs that the demand needs, of which it can use one; above 1 it loses events
    whatever its buffers. factor_alone: the same once its neighbours gave it a CPU, and so make fewer
    events. on, waiting, idle: percent of the time, throttled is a part of waiting. seconds: of the time in
    which events were lost.
    """

    demand: float
    capacity: float
    factor: float
    factor_alone: float
    on: float
    waiting: float
    throttled: float
    idle: float
    seconds: float
    lost: Lost


class Answer(TypedDict):
    """What came of tuning a host, once nothing is left to try: _tuning/answers.py.

    factor: CPUs that the load needs, where Falco can use one. tried: steps that were taken. takes: what would
    end the loss. gave_up: rules and system calls that Falco sees less of. predicted: percent that the last
    step was to leave lost. against: the bottleneck that it was taken against.
    """

    kind: Literal["solved", "improved", "accepted", "too_busy", "unsolved"]
    factor: float | None
    text: str
    tried: list[str]
    takes: list[str]
    gave_up: list[str]
    predicted: float | None
    against: str | None


class Verdict(TypedDict):
    state: State
    tier: str | None
    rate_per_cpu: float | None
    rate_per_cpu_guide: float | None
    drops_percent: float | None
    bottleneck: str
    # Other bottlenecks that have a share in the loss, the largest first.
    also: list[str]
    capacity: Capacity | None  # None where nothing is lost, or Falco's use of the CPU is unknown
    answer: Answer | None  # None before the planner has judged what is left to try, or while something is
    next_step: str
    advice: str
    reasons: list[str]
    cost: Cost


# --- Plan: _tuning/planner.make()


class Buffers(TypedDict):
    """The two settings that make Falco's ring buffers. The second is None where the driver has none."""

    buf_size_preset: int
    cpus_for_each_buffer: int | None


class AskedBuffers(Buffers):
    why: str


class Rings(TypedDict):
    """What the ring buffers of one choice cost: _tuning/buffers.layout()."""

    count: int
    bytes_each: int
    bytes_total: int
    bytes_at_load: int


class Budget(TypedDict):
    bytes: int | None
    bound: str


class ChosenBuffers(Buffers, Rings):
    """_tuning/buffers.choose()"""

    budget: Budget
    reasons: list[str]


class Bridged(TypedDict):
    before: float
    after: float
    at_events_per_second_per_cpu: float
    bytes_per_event: int


Change = TypedDict("Change", {"kind": ChangeKind, "key": str, "from": Json, "to": Json, "why": str})


class StepPart(TypedDict):
    """Another step that the same restart carries."""

    step: StepName
    to: dict[str, Any]
    replaced: dict[str, Any]


class Step(TypedDict):
    """The step that the evidence asks for, as a plan shows it and a host's record keeps it.

    predicted: percent of the events that is still lost then, by the capacity model. replaced: the values
    before `to`, where they can be taken back. calls: system calls a second on the host, where they were
    counted. also: what else the same restart carries. undoes: steps without effect that it takes back.
    """

    name: StepName
    why: str
    expected: str
    to: dict[str, Any]
    predicted: float | None
    replaced: dict[str, Any]
    also: list[StepPart]
    undoes: list[StepName]
    calls: float | None


class Rotation(TypedDict):
    """owner: user and group that logrotate becomes, where the directory is not root's; else None."""

    path: str
    size: str
    count: int
    owner: str | None


class HostFile(TypedDict):
    """A file outside Falco's own. path is the host's, without host_root."""

    path: str
    mode: str
    content: str
    why: str


class Plan(TypedDict):
    release: str
    driver: DriverKind
    # None: only an interrupted change is finished or undone
    layout: Literal["dropin", "full"] | None
    target: str | None
    settings: dict[str, Any]  # complete top-level blocks
    changes: list[Change]
    buffers: ChosenBuffers | None
    buffers_before: Buffers | None  # in force
    seconds_bridged: Bridged | None
    metrics_file: str | None  # of a proof: None where snapshots come too seldom for one
    sysctls: dict[str, str]
    directories: list[str]
    rotate: Rotation | None
    unit_dropin: dict[str, Any] | None  # None: no drop-in is there, and none is needed
    host_files: list[HostFile]
    warnings: list[str]
    restart_required: bool
    verdict: Verdict | None
    step: Step | None
    syscalls: dict[str, Any] | None  # _tuning/syscall_set.choose()
    syscalls_before: dict[str, Any] | None  # {'repair', 'custom_set'} in force
    coverage: dict[str, Any] | None  # its part about rules
    outcomes: list[StepOutcome]  # of the steps that were taken on this host before
    # What the host must still be asked for, so that the plan is complete.
    needs: Literal["syscalls"] | None


class NextRound(TypedDict):
    """The next look at a host in the same run: _tuning/rounds.py.

    number: of the round, from 1. closing: no step follows; what had no effect is taken back. not_before: Unix
    time from which the host can be judged, seconds after the proof of its change.
    """

    number: int
    closing: bool
    not_before: float
    seconds: float


class RefusedPlan(TypedDict):
    """What stands in the place of a plan where none can be made."""

    reason: str
    changes: list[Change]
    warnings: list[str]
    restart_required: bool
    verdict: Verdict
    step: None


# --- Request: _tuning/requests.build()


class LoadedFile(TypedDict):
    path: str
    strategy: str | None


class ProofParameters(TypedDict):
    """What the host must show. buffers: bytes_each and count; interval: seconds between two snapshots."""

    healthy_deadline: int
    min_healthy_time: int
    metrics_file: str
    scrape_url: str
    driver: str | None
    buffers: dict[str, int] | None
    unit_settings: dict[str, Any]
    drops_at_most: float | None
    counters: bool
    interval: float


class SeenRecord(TypedDict):
    """Of the host's record when the plan was made, Unix times: of its proof, and of the last step that was
    tried. None where there was none."""

    at: float | None
    tried: float | None


class Request(TypedDict):
    state: str
    host_root: str
    state_dir: str
    unit: str
    apply: str
    rollback_to: str
    kept_changes: int
    content: str
    layout: str | None
    target: str
    main: str | None
    expected: dict[str, str | None]
    reload_paths: list[str]
    load_order: list[LoadedFile]
    host_files: list[HostFile]
    directories: list[str]
    sysctls: dict[str, str]
    stage: str
    evidence: dict[str, Any] | None
    auto_revert: bool
    selected: list[str] | None
    restart: bool
    adopt: bool
    dry_run: str
    version: str | None
    attempt: dict[str, Any] | None
    before: Before | None
    seen: SeenRecord | None  # None: the record does not matter
    proof: ProofParameters


# --- Evidence: module_utils/_change/evidence.py


class SeenRings(TypedDict):
    bytes_each: int | None
    count: int | None
    source: str | None


class Evidence(TypedDict, total=False):
    """What proved a change. source: of the counters. reason: why there are none.

    adopted: Falco was not interrupted; what ran already was proven.
    """

    basis: EvidenceBasis
    source: str | None
    reason: str | None
    pid: int
    start_ticks: int
    restarts: int | None
    events: int
    drops_percent: float | None
    buffers: SeenRings
    seconds_to_evidence: float
    blind_seconds_at_most: float
    interruptions: int
    notes: list[str]
    adopted: bool


# --- Drift: _tuning/drift.find()


class Drift(TypedDict):
    kind: Literal["disk", "running", "overridden", "driver"]
    what: str
    found: Json
    expected: Json
    advice: str


# --- Report: _report/models.assemble(), docs/report-1.schema.json


class ReportRings(Buffers):
    count: int
    bytes_each: int
    bytes_total: int


class ReportPlan(TypedDict):
    changes: list[Change]
    restart_required: bool
    warnings: list[str]
    reason: str | None


class ReportChange(TypedDict):
    at: float | None
    evidence: dict[str, Any]
    before: dict[str, Any] | None


class Twin(TypedDict):
    """What a host tells its twins. twins: the same text for all of them."""

    twins: str
    outcomes: list[StepOutcome]


class Previous(TypedDict):
    at: str | None
    state: State | None
    drops_percent: float | None
    rate_per_cpu_guide: float | None


class ReportMonitored(TypedDict):
    """What Prometheus knows of a host that was not visited."""

    age: float | None
    events: float | None
    drops: float | None
    drops_percent: float | None


class ReportHost(TypedDict):
    name: str
    status: Literal["ok", "unreachable", "failed", "monitored"]
    reason: str | None
    release: str | None
    driver: str | None
    cpus: int | None
    memory_bytes: int | None
    kernel: str | None
    unit: str | None
    buffers: ReportRings | None
    window: dict[str, Any] | None
    verdict: Verdict | None
    plan: ReportPlan | None
    drift: list[Drift]
    change: ReportChange | None
    syscalls: dict[str, Any] | None
    trial: dict[str, Any] | None
    monitored: ReportMonitored | None
    previous: Previous | None
    history: list[list[int | float | str | None]]
    snapshot: dict[str, Any] | None
    twin: Twin | None


class ReportPolicy(TypedDict):
    accepted_drops_percent: float
    accepted_hosts_percent: float
    min_observation_seconds: float
    fail_on: list[str]


class Breach(TypedDict):
    rule: str
    hosts: list[str]
    text: str


class Percentiles(TypedDict):
    method: str
    measured: int
    drops_percent: dict[str, float | None]
    rate_per_cpu_guide: dict[str, float | None]


class SinceLast(TypedDict):
    at: str | None
    better: list[str]
    worse: list[str]
    new: list[str]
    gone: list[str]


class Monitoring(TypedDict):
    """The Prometheus that said which hosts to visit. problem: why it could not be asked. sample: hosts that
    it calls healthy and that were visited all the same. contradicted: those of them that are not."""

    server: str
    problem: str | None
    sample: list[str]
    contradicted: list[str]


class PredictionErrors(TypedDict):
    """How far what is lost is from what the last step was to leave lost, percentage points.

    hosts: with a prediction and a measurement since. None without any.
    """

    hosts: int
    median_error: float | None
    p90_error: float | None


class PredictionClass(PredictionErrors):
    """Hosts that are alike. ruleset: of the content of their rules files. against: the bottleneck that their
    last step was taken against."""

    driver: str | None
    cpus: int | None
    release: str | None
    ruleset: str | None
    against: str | None


class Predictions(PredictionErrors):
    """by_class: the classes of hosts with the largest errors, the largest first."""

    by_class: list[PredictionClass]


class Fleet(TypedDict):
    headline: str
    hosts: int
    ok: int
    unreachable: list[str]
    failed: list[str]
    monitored: list[str]
    monitoring: Monitoring | None
    states: dict[str, int]
    bottlenecks: dict[str, int]
    next_steps: dict[str, int]
    percentiles: Percentiles
    lines: list[int]
    events: int
    drops: int
    drops_percent: float | None
    drifting: list[str]
    restart_required: list[str]
    predictions: Predictions
    since_last: SinceLast
    # [[Unix time, hosts, measured, losing events, percent of all events lost], …] of the last audits, this
    # one included, oldest first.
    way: list[list[float | None]]
    breaches: list[Breach]


class Report(TypedDict):
    schema_version: int
    kind: str
    collection: str
    made_at: str
    seconds: float
    policy: ReportPolicy
    fleet: Fleet
    rollout: dict[str, Any] | None
    hosts: list[ReportHost]


# --- Trial: _trial/tests.complete()


class TrialWithout(TypedDict):
    """What a test takes away from what the host's own Falco has loaded. rules may hold * and ?."""

    rules: list[str]
    tags: list[str]
    files: list[str]
    plugins: list[str]
    rules_of_plugins: list[str]  # the rules that need these plugins, while the plugins stay loaded


class TrialTest(TypedDict):
    """One configuration of Falco to try.

    custom_set, repair and all: as in Falco's base_syscalls. without: None for a set of system calls, which is
    tried with a rule that never alerts; else the host's own rules and plugins are loaded without these.
    against: name of the test that this one is compared with, or None.
    """

    name: str
    custom_set: list[str]
    repair: bool
    all: bool
    without: TrialWithout | None
    against: str | None


# --- Rollout: _rollout/hosts.describe() and outcome(), _rollout/batching.plan(), _rollout/records.record()


RolloutHost = TypedDict(
    "RolloutHost",
    {
        "state": str,  # batching.HOST_STATES
        "class": list[Any] | None,
        "domain": str | None,
        "blind_seconds": float,
        "bytes": int,
        "rules_lost": int,
        "healthy": bool,
        "loses": str | None,
        "reason": str | None,
    },
)
"""What a rollout knows of a host before it begins. _rollout/batching.py explains each key."""


class RolloutDomain(TypedDict):
    hosts: int
    allowed: int


class Batch(TypedDict):
    number: int  # from 1
    stage: str  # batching.STAGES
    hosts: list[str]


class RolloutPlan(TypedDict):
    batches: list[Batch]
    left: dict[str, str]  # host: why it is in no batch
    down: dict[str, str]  # host: why it sees nothing before the rollout begins
    home: dict[str, str | None]  # host: its failure domain
    domains: dict[str, RolloutDomain]
    allowed_failures: int
    totals: dict[str, Any]


class Outcome(TypedDict):
    """What became of a host: _rollout/hosts.outcome()"""

    outcome: str  # batching.OUTCOMES
    blind: bool
    began: float | None
    ended: float | None
    blind_seconds: float | None
    evidence: str
    reason: str | None


class BegunBatch(Batch):
    began: float
    ended: float | None
    deferred: dict[str, str]  # host: why it could not begin


class RolloutProgress(TypedDict):
    """Where a rollout stands, as its hosts' results say. batches: those that began."""

    id: str
    state: str  # _report/shape.ROLLOUTS
    reason: str | None
    began: float
    ended: float
    outcomes: dict[str, Outcome]
    batches: list[BegunBatch]


# --- What a Prometheus knows of a host: _prometheus/monitored.judge()

MonitoredState = Literal["dropping", "blind", "stale", "healthy", "unknown"]


class Monitored(TypedDict):
    """events and drops: increases in the window. age: of the last sample. labels: of the target, by whoever
    configured Prometheus."""

    state: MonitoredState
    reason: str
    release: str | None
    age: float | None
    events: float | None
    drops: float | None
    drops_percent: float | None
    labels: dict[str, str]


# --- Audit of rules: _rules_audit/auditor.audit()

AuditLevel = Literal["error", "warning", "note"]
"""error: Falco does not start with these files. warning: it costs time or detection. note: worth knowing."""


class RuleFinding(TypedDict):
    """What is wrong with a rule, macro, list or setting, and what to do. kind: see auditor.KINDS.

    rule: name of the rule, macro or list, or None. saves_ns: nanoseconds an event that the advice saves where
    that is known. saves_percent: percent of a core, where the event rates are known too.
    """

    level: AuditLevel
    kind: str
    rule: str | None
    file: str | None
    line: int | None
    text: str
    instead: str
    saves_ns: float | None
    saves_percent: float | None


class RuleWeight(TypedDict):
    """What one enabled rule costs.

    ns: nanoseconds an event that reaches it, None where its condition is too large. rate: such events a
    second, percent: percent of one core; both None without event rates. share: percent of what all rules
    cost; without event rates, of one event of each type. alone: event types that are selected for this rule
    only.
    """

    rule: str
    file: str | None
    line: int | None
    tags: list[str]
    events: list[str]  # its event types; [] where nothing restricts them
    ns: float | None
    rate: float | None
    percent: float | None
    share: float | None
    alone: list[str]
    findings: list[str]  # kinds


class RulesAudit(TypedDict):
    """_rules_audit/auditor.audit(). basis: where the events a second come from, 'profile' or 'none'. cost:
    where the nanoseconds come from."""

    release: str
    ok: bool
    rules_total: int
    rules_enabled: int
    basis: Literal["profile", "none"]
    cost: str
    percent: float | None  # of one core, all rules
    findings: list[RuleFinding]
    weights: list[RuleWeight]
    overrides: NotRequired[str]  # of files: a rules file with better conditions, proven to be equal
