//! `core-bench`: what the core costs.

use crate::try_run;
use serde_json::Value;

/// The core's cost: a row for each size and number of tenants, at least 60 buckets, memory within its bound.
#[test]
fn core_bench() {
    let text = try_run("core-bench --queued 2000 --tenants 1,20 --cycles 500 --json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["conditions"]["classes"], &json["conditions"]["backends"]), (&3.into(), &4.into()));
    let rows = json["rows"].as_array().unwrap();
    let tenants: Vec<&Value> = rows.iter().map(|row| &row["tenants"]).collect();
    assert_eq!(tenants, [1, 20]);
    for row in rows {
        assert!(row["cycle_ns"].as_u64().unwrap() > 0);
        assert!(row["nonempty_buckets_min"].as_u64().unwrap() >= 60, "{row}");
        let [fixed, total, per_ticket] = ["bytes_fixed", "bytes_total_per_ticket", "bytes_per_ticket"]
            .map(|column| row[column].as_i64().unwrap());
        assert!((80..=256).contains(&per_ticket), "{row}");
        // Batches, tenants and their flows come on top; the ticket itself is in both.
        assert!((100..=512).contains(&total), "{row}");
        assert!((4_096..=65_536).contains(&fixed), "{row}");
    }
    let table = try_run("core-bench --queued 200 --tenants 3 --cycles 10").unwrap();
    assert!(table.starts_with("queued  tenants  cycle_ns"), "{table}");
}

/// Whatever the size and the tenants: the long lanes are full half the time, and lengths fill at least 60 buckets.
#[test]
fn core_bench_mix() {
    let text = try_run("core-bench --queued 1000,20000 --tenants 1,1000 --cycles 2048 --json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!((0.4..=0.6).contains(&row["long_lane_full"].as_f64().unwrap()), "{row}");
        assert!(row["nonempty_buckets_min"].as_u64().unwrap() >= 60, "{row}");
    }
}
