//! A scale from values to places, with round ticks.

#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// Whole decades around all values above 0.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = span(values.filter(|value| *value > 0.0));
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        let high = if high > low { high } else { low + 1.0 };
        Self { low: 10_f64.powf(low), high: 10_f64.powf(high), logarithmic: true, from, to }
    }

    /// From 0 to a round value above all.
    pub(super) fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let high = span(values).1.max(f64::MIN_POSITIVE);
        let step = step(high);
        Self { low: 0.0, high: (high / step).ceil() * step, logarithmic: false, from, to }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut at = self.low;
        let step = step(self.high);
        while at <= self.high * (1.0 + 1e-9) {
            ticks.push(at);
            at = if self.logarithmic { at * 10.0 } else { at + step };
        }
        ticks
    }
}

/// About five steps of 1, 2 or 5 times a power of ten up to `high`.
fn step(high: f64) -> f64 {
    let power = 10_f64.powf((high / 5.0).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| high / (factor * power) <= 6.0);
    factor.unwrap_or(10.0) * power
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, 0.0), |(low, high), value| (low.min(value), high.max(value)))
}

/// As few digits as tell a tick.
pub(crate) fn label(value: f64) -> String {
    let rounded = format!("{value:.3}");
    let rounded = rounded.trim_end_matches('0').trim_end_matches('.');
    let (whole, fraction) = rounded.split_once('.').map_or((rounded, None), |(w, f)| (w, Some(f)));
    let mut text = String::new();
    for (digit, left) in whole.chars().zip((0..whole.len()).rev()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    fraction.map_or(text.clone(), |fraction| format!("{text}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decades enclose the values, and a linear axis begins at 0 and ends above the largest.
    #[test]
    fn ticks() {
        let axis = Axis::logarithmic([0.2, 0.0, 300.0].into_iter(), 0.0, 400.0);
        assert!(axis.ticks().iter().map(|tick| label(*tick)).eq(["0.1", "1", "10", "100", "1,000"]));
        assert!((axis.place(10.0) - 200.0).abs() < 1e-9 && axis.place(0.0).abs() < 1e-9);
        let axis = Axis::linear([3.0, 47.0].into_iter(), 100.0, 0.0);
        assert_eq!(axis.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert!((axis.place(50.0)).abs() < 1e-9 && (axis.place(0.0) - 100.0).abs() < 1e-9);
    }

    /// Thousands are grouped, trailing zeros are not written.
    #[test]
    fn labels() {
        assert_eq!([0.85, 0.001, 20.0, 1_234_567.0].map(label), ["0.85", "0.001", "20", "1,234,567"]);
    }
}
