//! Results as aligned text.

use serde::Serialize;
use serde_json::Value;

/// A line for each record, a column for each field.
pub(crate) fn render(records: &[impl Serialize]) -> String {
    let records: Vec<Value> = records.iter().map(|record| serde_json::json!(record)).collect();
    let Some(Value::Object(first)) = records.first() else { return String::new() };
    let columns: Vec<&String> = first.keys().collect();
    let header = columns.iter().map(ToString::to_string).collect();
    let lines =
        records.iter().map(|record| columns.iter().map(|column| cell(&record[column.as_str()])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(lines).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let decimals =
                [1.0, 10.0, 1_000.0].iter().map(|above| usize::from(number.abs() < *above)).sum::<usize>();
            let decimals = [0, 1, 3, 4][decimals];
            format!("{number:.decimals$}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns line up; what there is none of is a dash.
    #[test]
    fn aligned() {
        let records = [
            serde_json::json!({"policy": "sjf", "ttft_s": 1.5}),
            serde_json::json!({"policy": "x", "ttft_s": null}),
        ];
        assert_eq!(render(&records), "policy  ttft_s\nsjf      1.500\nx            -\n");
    }
}
