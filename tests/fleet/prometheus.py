# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus on this machine that scrapes hosts of tests/fleet."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from hosts import free_ports



class Prometheus:
    """Started by start(), stopped by stop(). jobs: {job: {name of a host: its port}}.

    Names of hosts are labels, because all hosts of tests/fleet have the same address.
    """

    def __init__(self, folder: Path, jobs: dict[str, dict[str, int]], *rules: Path) -> None:
        self.folder, self.jobs, self.rules = folder, jobs, rules
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.process: subprocess.Popen | None = None

    @staticmethod
    def there() -> bool:
        return shutil.which("prometheus") is not None and shutil.which("promtool") is not None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(path) for path in self.rules],
                  "scrape_configs": [
                      {"job_name": job, "static_configs": [
                          {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": f"{name}:8765"}} for name, port in hosts.items()]}
                      for job, hosts in self.jobs.items()]}
        (self.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                 f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)

    def ask(self, query: str) -> list[dict]:
        """The series of an instant query; [] while the server is not ready."""
        try:
            with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []
