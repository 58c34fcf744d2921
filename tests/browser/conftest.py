# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One headless Chromium for all tests, and pages made by the collection as it is built and installed."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build" / "collections"), str(Path(__file__).resolve().parent)]

from chromium import Chromium, find  # noqa: E402


def module_at(path: str):
    """A helper of other tests, by its file: its folder's other names are no business of ours."""
    spec = importlib.util.spec_from_file_location("browser_" + Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile = module_at("tests/unit/hostile_page.py")
audits = module_at("tests/benchmarks/synthetic_audit.py")
trials_of = module_at("tests/benchmarks/synthetic_trial.py")
rollouts = module_at("tests/benchmarks/synthetic_rollout.py")


@pytest.fixture(scope="session")
def chromium():
    if not find():
        pytest.skip("there is no Chromium here: tests/tools/browser_packages installs it where apt-get may, or set CHROMIUM")
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture
def page(chromium):
    """A page of its own; what it asked for, said and tried is looked at when its test is over."""
    page = chromium.page()
    page.size(1280)
    yield page
    page.js("0")
    page.close()
    if not page.may_complain:
        assert page.problems == [] and page.dialogs == []
        assert all(url.startswith(("file:///", "about:")) for url in page.requests), page.requests


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """made(name, model) → its url, path and model; each page is rendered once."""
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import html

    folder, known = tmp_path_factory.mktemp("pages"), {}

    def make(name, model):
        if name not in known:
            path = folder / f"{name}.html"
            given = model()
            path.write_text(html.render(given), "utf-8")
            known[name] = SimpleNamespace(url=path.as_uri(), path=path, model=given)
        return known[name]

    return make


@pytest.fixture
def fleet(made):
    """300 hosts, of which one has been given everything that a host's page can show."""
    return made("fleet", full_fleet)


def full_fleet() -> dict:
    model = audits.audit_model(300)
    host = next(item for item in model["hosts"] if item["plan"] and item["plan"]["changes"] and item["verdict"]["state"] == "dropping")
    other = next(item for item in model["hosts"] if item["drift"])
    host.update(drift=copy.deepcopy(other["drift"]), change={
        "at": 1795000000, "evidence": {"pid": 4711, "buffers": {"count": 4, "bytes_each": 33554432}},
        "before": {"drops_percent": 41.5, "rate_per_cpu": 2000.0, "seconds": 61.0}})
    host["plan"]["warnings"] = ["metrics.interval is longer than the window"]
    model["full"] = host["name"]
    return model


def named(model: dict, name: str) -> dict:
    return next(host for host in model["hosts"] if host["name"] == name)


@pytest.fixture
def hostile_fleet(made):
    return made("hostile", hostile.report)


@pytest.fixture
def hostile_trials(made):
    return made("hostile-trials", lambda: hostile.report(kind="trial"))


@pytest.fixture
def hostile_rollout(made):
    return made("hostile-rollout", lambda: hostile.report(kind="rollout"))


def report_of(kind: str, hosts: list, record: dict | None = None) -> dict:
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models

    return models.assemble(hosts, dict(audits.POLICY, fail_on=[]), dict(audits.META, kind=kind), None, record)


def rolled(number: int, **more) -> dict:
    hosts = audits.audit_results(number, history=0)
    return report_of("rollout", hosts, rollouts.rollout([host["name"] for host in hosts], **more))


def bare_rollout() -> dict:
    """Nothing has begun, and nobody was measured."""
    record = rollouts.rollout(["a", "b"])
    record.update(batches=[], left=["a", "b"], domains=[], down=[], state="awaiting_promotion", planned={"changing": 12})
    return report_of("rollout", [], record)


@pytest.fixture
def trials(made):
    return made("trials", lambda: report_of("trial", trials_of.tried(audits.audit_results(60, history=0))))


@pytest.fixture
def rollout(made):
    return made("rollout", lambda: rolled(300, wrong=0.2, stop=8))


@pytest.fixture
def large_rollout(made):
    return made("large-rollout", lambda: rolled(5000))
