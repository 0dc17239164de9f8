"""The table of columns: what files of each schema version have, and what may be empty."""

from __future__ import annotations

from farm.results.column_kinds import PARTITIONS, key, state
from farm.results.columns import COLUMNS, SCHEMA_VERSION

NEVER_EMPTY = "cell model shape precision runtime status origin"
LATER = {
    2: "postprocess max_abs_diff max_rel_diff cosine",
    3: "device_p50_ms cuda_graph convert_s kept_fp32 fallback convert_key speedup_vs_fp32",
    4: "origin",
    5: "box_ap_by_class mask_ap_by_class",
    6: "failure_class",
    7: "rank vs_best vs_best_low vs_best_high latency_source rounds order_seed compare_key "
    "measured_at "
    "speedup_vs_fp32_low speedup_vs_fp32_high "
    "evaluate_images stopped_early throughput_batch throughput_streams serial_images_per_s "
    "server_rate_per_s server_p99_ms server_bound_ms server_streams "
    "host_p50_ms latency_includes busy_cores_before busy_cores load_before load_after "
    "steal_fraction_before steal_fraction cpu_mhz_before cpu_mhz affinity governor gpu_sm_mhz "
    "gpu_memory_mhz gpu_power_limit_w gpu_temperature_c gpu_throttling gpu_mig "
    "box_ap_drop_low box_ap_drop_high mask_ap_drop_low mask_ap_drop_high",
    8: "voc_map voc_map_reference voc_map_drop host dataset farm_version",
}


def test_files_have_the_columns_of_their_schema_version_and_of_earlier_ones() -> None:
    for version in range(1, SCHEMA_VERSION + 1):
        required = {name for name, column in COLUMNS.items() if column.required(version)}
        later = {name for one, names in LATER.items() if one > version for name in names.split()}
        assert required == set(COLUMNS) - later - set(PARTITIONS)


def test_what_names_a_cell_is_never_empty() -> None:
    assert [name for name, one in COLUMNS.items() if not one.nullable] == NEVER_EMPTY.split()


def test_columns_came_with_their_version_and_older_rows_have_their_default() -> None:
    later = {version: names.split() for version, names in LATER.items()}
    found = {
        version: [name for name, column in COLUMNS.items() if column.since == version]
        for version in range(1, SCHEMA_VERSION + 1)
    }
    assert {version: set(names) for version, names in found.items() if version > 1} == {
        version: set(names) for version, names in later.items()
    }
    before = {name: one.before for name, one in COLUMNS.items() if one.before is not None}
    assert before == {"postprocess": "graph", "origin": "here"}
    assert set(PARTITIONS) <= set(COLUMNS)


def test_keys_and_states_are_what_they_look_like() -> None:
    assert key("0123456789abcdef" * 4)
    assert not any(map(key, ("0" * 63, "0" * 65, "A" * 64, "g" * 64, None, 3, "0" * 64 + "\n")))
    assert all(map(state, ("ok", "failed", "pending", "skipped"))) and not any(
        map(state, ("OK", "", None))
    )
