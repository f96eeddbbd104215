"""Text of docs/reference/tables.md, from the definitions: as in the UI before any run."""

from collections.abc import Iterator, Sequence

import dagster as dg

from sticker_pipeline.core.markdown import literal, table
from sticker_pipeline.dagster_kit.metadata import COLUMN_SCHEMA, COLUMNS_OF, ROWS_OF

BEGINNING = """\
# Tables

`make reference` writes this page from the schemas that stand beside the functions that make the tables. A table is
checked when it is written, and what the schema does not allow is an error. Dagster shows the same columns on each
asset, also before any run.

Each table is a Parquet file in the folder of its artifact, with the types of pandas:
`pandas.read_parquet("artifacts/bram_thistle/frames/index.parquet")`. A name such as `<character>` stands for any number
of columns; a number that may be missing is NaN.
"""

STAGES = ["media", "sampling", "tagging", "dataset", "lora_training", "benchmark", "generation", "publishing"]
STAGES += ["packing", "style", "on_request"]
Table = tuple[str, str, dg.TableSchema]  # its file, what there is one row for, its columns


def tables_page(definitions: dg.Definitions) -> str:
    """Return the page: each table once, with all assets that write it, stage by stage."""
    order = {asset: place for place, asset in enumerate(definitions.resolve_asset_graph().toposorted_asset_keys)}
    writers = [spec for spec in definitions.resolve_all_asset_specs() if COLUMN_SCHEMA in spec.metadata]
    specs = sorted(writers, key=lambda spec: (STAGES.index(spec.group_name or ""), order[spec.key]))
    found: list[tuple[Table, list[str]]] = []
    for spec in specs:
        for one in tables_of(spec):
            assets = next((assets for other, assets in found if other == one), None)
            if assets is None:
                found.append((one, assets := []))
            assets.append(spec.key.to_user_string())
    return "\n".join([BEGINNING, *(_section(one, assets) for one, assets in found)])


def tables_of(spec: dg.AssetSpec) -> Iterator[Table]:
    """The tables that the definition of an asset declares, its first one first."""
    for key, rows in spec.metadata.items():
        if key.startswith(ROWS_OF):
            file = key.removeprefix(ROWS_OF)
            yield file, rows, spec.metadata.get(f"{COLUMNS_OF}{file}", spec.metadata[COLUMN_SCHEMA])


def _section(one: Table, assets: Sequence[str]) -> str:
    file, rows, schema = one
    title = ", ".join(f"`{asset}`" for asset in assets)
    lines = [["column", "type", "what it is", "values"], ["---"] * 4]
    lines += [[f"`{each.name}`", each.type, literal(each.description or ""), _values(each)] for each in schema.columns]
    rules = "".join(f" {rule[0].upper()}{rule[1:]}." for rule in schema.constraints.other)
    return f"## {title}: `{file}`\n\nOne row {literal(rows.removeprefix('one '))}.{rules}\n\n{table(lines)}\n"


def _values(column: dg.TableColumn) -> str:
    return literal("; ".join([*column.constraints.other, *(["may be missing"] if column.constraints.nullable else [])]))
