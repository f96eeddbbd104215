"""A deployment without generation or training: the real assets and checks, with scripted bodies.

Names, deps and conditions are real; bodies are pure functions of scripted content. Requests of the automation run as in
Dagster, so versions, provenance and blocking checks are Dagster's own.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.core.storage import Artifact, content_hash
from sticker_pipeline.dagster_kit.compat import asset_specs
from sticker_pipeline.dagster_kit.fixed import NO_VALUES
from sticker_pipeline.dagster_kit.history import History, remembered_partitions
from sticker_pipeline.dagster_kit.restored import observe_and_restore, versions_now
from sticker_pipeline.dagster_kit.scope import Scope, observation, own_artifact, used_parts
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.scopes import ALL_ROOTS, CHARACTER_ROOTS
from sticker_pipeline_tests.dagster_kit.copied import copy_history

LOOK = timedelta(seconds=30)  # between two looks of the sensor
PARTS = [part for root in CHARACTER_ROOTS for part in root.parts]
ROSTER = ALL_ROOTS[0].key
SHARED = {"real", "instance"}  # the fields of a world that its copies do not copy
GATES = {"training_set": ["enough_images"], "benchmark": list(CHECKS)}

Requested = set[tuple[str, str | None]]  # (asset, character; None: of all)


@dataclass
class World:
    """Characters with scripted sections, and what was made of them.

    sections: (character, section) -> content. `made`: (asset, character) -> content. Steps in `broken` raise. A
    character in `bad` fails its gate, one in `few` has too few images, one in `warned` hardly enough. `during`: what
    else happens while a step runs.
    """

    real: dg.Definitions
    instance: dg.DagsterInstance
    now: datetime
    sections: dict[tuple[str, str], str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    made: dict[tuple[str, str | None], str] = field(default_factory=dict)
    broken: set[tuple[str, str]] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    few: set[str] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)
    during: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.real.resolve_asset_graph()
        specs = {
            asset: self.real.resolve_assets_def(asset).get_asset_spec(asset)
            for asset in graph.materializable_asset_keys
        }
        real_checks = {check for check in graph.asset_check_keys if graph.get(check).blocking}
        assert real_checks == {dg.AssetCheckKey(dg.AssetKey(asset), name) for asset in GATES for name in GATES[asset]}
        sources = [self.real.resolve_assets_def(asset) for asset in graph.observable_asset_keys]
        self.definitions = dg.Definitions(
            assets=[*{id(source): source for source in sources}.values(), *map(self._stub, specs.values())],
            asset_checks=[
                self._checks("training_set", lambda name: name not in self.few | self.warned),
                self._checks("benchmark", lambda name: name not in self.bad),
            ],
            resources={"io_manager": NO_VALUES},
        )
        self.graph = self.definitions.resolve_asset_graph()
        self.specs = asset_specs(self.graph, CHARACTERS)
        self.job = self.definitions.resolve_implicit_global_asset_job_def()
        self.cursor: Any = None

    def copied(self, instance: dg.DagsterInstance) -> "World":
        """Copy this world to the new `instance`; it goes on alone, with its automation."""
        copy_history(self.instance, instance)
        state = {each.name: copy(getattr(self, each.name)) for each in fields(self) if each.name not in SHARED}
        other = World(self.real, instance, **state)
        other.cursor = self.cursor
        return other

    def lose_history(self, instance: dg.DagsterInstance) -> None:
        """Go on with the empty `instance`: artifacts, files and settings stay."""
        names = self.characters
        self.instance, self.cursor = instance, None
        self.add(*names)

    @property
    def characters(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions(str(CHARACTERS.name)))

    def add(self, *names: str) -> None:
        """Characters whose sections say what they said when they were last seen, or `first`."""
        self.instance.add_dynamic_partitions(str(CHARACTERS.name), list(names))
        for name in names:
            for part in PARTS:
                self.sections.setdefault((name, part), "first")
            self.observe(name)
        self._observe_roster()

    def remove(self, name: str) -> None:
        self.instance.delete_dynamic_partition(str(CHARACTERS.name), name)
        self._observe_roster()

    def edit(self, name: str, part: str, content: str) -> None:
        self.sections[name, part] = content
        self.observe(name)

    def observe(self, name: str) -> None:
        """Look at the character as the folder sensor does."""
        scope, history = self.scope(name), History(self.instance, self.graph)
        observe_and_restore(history, self.specs, scope, self, scope.values(self))  # type: ignore[arg-type]

    def scope(self, name: str) -> Scope[str]:
        return Scope(
            name=name,
            partitions=CHARACTERS,
            partition=name,
            place=name,
            load=lambda: name,
            roots=CHARACTER_ROOTS,
            value=lambda part, who, _: {"files": self.sections[who, part]},
            artifacts=partial(own_artifact, name),
        )

    def find(self, place: str, asset: str) -> Artifact | None:
        """Return an artifact, as a store does."""
        return self.artifacts.get((place, asset))

    def uri(self, place: str, asset: str) -> str:
        """Return where an artifact lies, as a store does."""
        return f"{place}/{asset}"

    def afresh(self) -> "World":
        """Return the store as it is now."""
        return self

    def _observe_roster(self) -> None:
        self.instance.report_runless_asset_event(observation(ROSTER, None, {"roster": self.characters}))

    def settle(self, looks: int = 60) -> list[Requested]:
        """Look every 30 seconds and run the requests, until there are none; return each look's."""
        history: list[Requested] = []
        while requested := self.look():
            history.append(requested)
            assert len(history) < looks, history
        return history

    def look(self) -> Requested:
        """Evaluate all conditions once, and run the requests.

        All of one character run in one run, as with the sensor.
        """
        requested = self.requested()
        runs: dict[str | None, list[str]] = defaultdict(list)
        for asset, name in requested:
            runs[name].append(asset)
        for name, assets in runs.items():
            self.run(name, assets, {asset: GATES[asset] for asset in assets if asset in GATES})
        return requested

    def requested(self) -> Requested:
        """The requests of one evaluation of all conditions."""
        self.now += LOOK
        with remembered_partitions(self.instance):
            result = dg.evaluate_automation_conditions(
                self.definitions, self.instance, cursor=self.cursor, evaluation_time=self.now
            )
        self.cursor = result.cursor
        assets = self.graph.materializable_asset_keys
        return {(asset.path[-1], name) for asset in assets for name in result.get_requested_partitions(asset)}

    def run(self, name: str | None, assets: Iterable[str], checks: Mapping[str, Iterable[str]]) -> None:
        """One run of `assets` and of `checks` (asset -> names of its checks), for the character `name`."""
        selected = self.job.get_subset(
            asset_selection={dg.AssetKey(asset) for asset in assets},
            asset_check_selection={
                dg.AssetCheckKey(dg.AssetKey(asset), check) for asset in checks for check in checks[asset]
            },
        )
        selected.execute_in_process(instance=self.instance, partition_key=name, raise_on_error=False)

    def _stub(self, spec: dg.AssetSpec) -> dg.AssetsDefinition:
        @dg.multi_asset(name="_".join(spec.key.path), specs=[spec])
        def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            name = context.partition_key if context.has_partition_key else None
            asset = spec.key.path[-1]
            if (asset, name) in self.broken:
                raise RuntimeError(f"{asset} of {name} is broken")
            content = self._content(spec, name)
            inputs = self._inputs(spec, name) if name else {}
            if happening := self.during.pop((asset, name), None):
                happening()
            self.made[asset, name] = content
            version, code = content_hash(content), spec.code_version or ""
            if name:
                self.artifacts[name, asset] = Artifact(Path(asset), asset, code, version, inputs, {}, {})
            return dg.MaterializeResult(data_version=dg.DataVersion(version))

        return step

    def _content(self, spec: dg.AssetSpec, name: str | None) -> str:
        """A pure function of the asset's inputs.

        Of media, what comes behind ` + ` changes no frame.
        """
        used = [part for root in CHARACTER_ROOTS for part in used_parts(spec, root)] if name else []
        parts = {part: self.sections[str(name), part] for part in used}
        for dep in spec.deps:
            across = name is None and dep.asset_key.path[-1] in {asset for asset, who in self.made if who}
            for who in self.characters if across else [name]:
                if dep.asset_key == ROSTER:
                    parts["roster"] = ",".join(self.characters)
                elif len(dep.asset_key.path) == 1:
                    parts[f"{dep.asset_key.path[-1]}|{who}"] = self.made.get((dep.asset_key.path[-1], who), "")
        if spec.key.path[-1] == "raw_media":
            return parts["media"]
        if spec.key.path[-1] == "frames":
            return json.dumps([parts[f"raw_media|{name}"].partition(" + ")[0], parts["frames"]])
        if spec.key.path[-1] == "curated_tags":
            parts.pop(f"raw_media|{name}")
        return spec.key.path[-1] + content_hash(parts)

    def _inputs(self, spec: dg.AssetSpec, name: str) -> dict[str, str]:
        scope = self.scope(name)
        values = scope.values(self)  # type: ignore[arg-type]
        found = [versions_now(spec, dep.asset_key, scope, self, values) for dep in spec.deps]  # type: ignore[arg-type]
        return {entry: version for versions in found for entry, version in versions.items() if version}

    def _checks(self, asset: str, passed: Callable[[str], bool]) -> dg.AssetChecksDefinition:
        specs = [
            dg.AssetCheckSpec(name, asset=asset, blocking=True, partitions_def=CHARACTERS) for name in GATES[asset]
        ]

        @dg.multi_asset_check(name=f"{asset}_checks", specs=specs, can_subset=True)
        def judged(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            for check in context.op_execution_context.selected_asset_check_keys:
                name = context.op_execution_context.partition_key
                severity = dg.AssetCheckSeverity.WARN if name in self.warned else dg.AssetCheckSeverity.ERROR
                yield dg.AssetCheckResult(
                    asset_key=check.asset_key, check_name=check.name, passed=passed(name), severity=severity
                )

        return judged
