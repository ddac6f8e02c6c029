//! Step costs of an engine from a recorded run, by least squares on the decode durations.
//!
//! Between its first and its last token a request takes part in one step for each further token. Those steps last
//! `d` each, `e` for each token that anybody gets in them, and `b` for each prompt token that they prefill on the way:
//! linear in d, e and b. Who overlaps whom is in the record (a request's tokens are spread evenly over its time).
//! Requests whose time per token is far above the median were preempted and are left out. Rows count by their relative
//! error. Neither waiting times nor times to first token are used: those are left to predict.

use crate::Error;
use crate::vllm_run::{self, RecordedRequest};
use serde::Serialize;
use std::path::Path;

/// Times per token up to so many medians are of requests that were not preempted.
const PREEMPTED_FROM: f64 = 1.15;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Fit {
    /// `b`.
    pub(crate) prefill_token_ms: f64,
    /// `d`, and `a`.
    pub(crate) decode_base_ms: f64,
    /// `e`.
    pub(crate) decode_sequence_ms: f64,
    pub(crate) requests: usize,
    pub(crate) median_error: f64,
}

pub(crate) fn fit(path: &Path) -> Result<Fit, Error> {
    let run = vllm_run::read(path)?;
    let rows: Vec<[f64; 3]> = unpreempted(&run).iter().map(|request| relative_row(request, &run)).collect();
    let Some([decode_base_ms, decode_sequence_ms, prefill_token_ms]) = least_squares(&rows) else {
        let reason = "the run is too uniform for a fit".to_owned();
        return Err(Error::Row { path: path.to_owned(), line: 1, reason });
    };
    let costs = [decode_base_ms, decode_sequence_ms, prefill_token_ms];
    let mut errors: Vec<f64> = rows.iter().map(|row| (1.0 - dot(row, &costs)).abs()).collect();
    errors.sort_by(f64::total_cmp);
    Ok(Fit {
        prefill_token_ms,
        decode_base_ms,
        decode_sequence_ms,
        requests: rows.len(),
        median_error: errors[errors.len() / 2],
    })
}

fn steps(request: &RecordedRequest) -> f64 {
    f64::from(request.output_toks.max(1) - 1)
}

fn decode_ms(request: &RecordedRequest) -> f64 {
    (request.last_token_ts - request.first_token_ts) * 1e3
}

fn unpreempted(run: &[RecordedRequest]) -> Vec<RecordedRequest> {
    let decoding = run.iter().filter(|request| request.output_toks > 1 && decode_ms(request) > 0.0);
    let mut decoding: Vec<RecordedRequest> = decoding.copied().collect();
    decoding.sort_by(|a, b| (decode_ms(a) / steps(a)).total_cmp(&(decode_ms(b) / steps(b))));
    let Some(median) = decoding.get(decoding.len() / 2).copied() else { return decoding };
    let most = PREEMPTED_FROM * decode_ms(&median) / steps(&median);
    decoding.retain(|request| decode_ms(request) / steps(request) <= most);
    decoding
}

/// Steps, tokens and prompt tokens within the request's decode, each over its duration: `row * (d, e, b) = 1`.
fn relative_row(of: &RecordedRequest, run: &[RecordedRequest]) -> [f64; 3] {
    let (from, to) = (of.first_token_ts, of.last_token_ts);
    let shared = |start: f64, end: f64| {
        let overlap = end.min(to) - start.max(from);
        if overlap > 0.0 { overlap / (end - start) } else { 0.0 }
    };
    let mut row = [steps(of), 0.0, 0.0];
    for other in run {
        row[1] += steps(other) * shared(other.first_token_ts, other.last_token_ts);
        if other.first_token_ts > from && other.first_token_ts <= to {
            row[2] += f64::from(other.input_toks);
        }
    }
    row.map(|term| term / decode_ms(of))
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The x with the least sum of `(row * x - 1)^2`: the normal equations by Cramer's rule.
fn least_squares(rows: &[[f64; 3]]) -> Option<[f64; 3]> {
    let mut matrix = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for row in rows {
        for i in 0..3 {
            right[i] += row[i];
            for j in 0..3 {
                matrix[i][j] += row[i] * row[j];
            }
        }
    }
    let whole = determinant(&matrix);
    let scale: f64 = (0..3).map(|i| matrix[i][i]).product();
    if !whole.is_finite() || whole.abs() <= 1e-12 * scale {
        return None;
    }
    Some([0, 1, 2].map(|column| {
        let mut replaced = matrix;
        for (line, value) in replaced.iter_mut().zip(right) {
            line[column] = value;
        }
        determinant(&replaced) / whole
    }))
}

fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    let minor = |i: usize, j: usize| m[1][i] * m[2][j] - m[1][j] * m[2][i];
    m[0][0] * minor(1, 2) - m[0][1] * minor(0, 2) + m[0][2] * minor(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows made from known costs give them back; rows that say too little give nothing.
    #[test]
    fn known_costs() {
        let costs = [18.0, 0.25, 0.08];
        let rows = [
            [500.0, 9_000.0, 20_000.0],
            [700.0, 15_000.0, 8_000.0],
            [600.0, 30_000.0, 9_000.0],
            [90.0, 100.0, 0.0],
        ];
        let rows = rows.map(|row| row.map(|term: f64| term / dot(&row, &costs)));
        let ours = least_squares(&rows).unwrap();
        assert!(ours.iter().zip(costs).all(|(ours, cost)| (ours - cost).abs() < 1e-6));
        assert_eq!(least_squares(&[[1.0, 2.0, 3.0]; 5]), None);
    }
}
