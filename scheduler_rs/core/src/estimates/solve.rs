//! Weighted least squares for a quadratic whose coefficients are not below 0, from sums alone.
//!
//! With three unknowns the active sets can be enumerated: the best of the seven unconstrained solutions that have no
//! negative coefficient is the constrained one (Lawson and Hanson, Solving Least Squares Problems, 1974, ch. 23).

/// Normal equations of `y = x0 + x1 n + x2 n^2`: sums over samples, each with a weight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Of `n^0` to `n^4`.
    powers: [f64; 5],
    /// Of `y n^0` to `y n^2`.
    products: [f64; 3],
}

/// A pivot below this part of its diagonal cannot be told from 0.
const SINGULAR: f64 = 1e-10;

/// The coefficients that are not held at 0.
const SETS: [&[usize]; 7] = [&[0], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]];

impl Sums {
    pub(crate) fn add(&mut self, n: f64, y: f64, weight: f64) {
        let mut power = weight;
        for at in 0..5 {
            self.powers[at] += power;
            if at < 3 {
                self.products[at] += power * y;
            }
            power *= n;
        }
    }

    /// Multiplies the weight of all samples.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.powers.iter_mut().chain(&mut self.products).for_each(|sum| *sum *= factor);
    }

    /// The coefficients with the least sum of squared errors; all 0 if there is nothing to go by.
    pub(crate) fn solve(&self) -> [f64; 3] {
        let mut best = ([0.0; 3], 0.0);
        for unknowns in SETS {
            let Some(solution) = self.solve_for(unknowns) else { continue };
            // Of a least-squares solution, the part of `sum of y^2` that it explains.
            let explained: f64 = solution.iter().zip(&self.products).map(|(x, product)| x * product).sum();
            if solution.iter().all(|&x| x >= 0.0) && explained > best.1 {
                best = (solution, explained);
            }
        }
        best.0
    }

    /// By Gaussian elimination, the other coefficients 0; a symmetric positive matrix needs no pivoting.
    fn solve_for(&self, unknowns: &[usize]) -> Option<[f64; 3]> {
        let mut rows = [[0.0; 4]; 3];
        for &i in unknowns {
            for &j in unknowns {
                rows[i][j] = self.powers[i + j];
            }
            rows[i][3] = self.products[i];
        }
        for &i in unknowns {
            if rows[i][i] <= SINGULAR * self.powers[2 * i] {
                return None;
            }
            for &j in unknowns.iter().filter(|&&j| j > i) {
                let factor = rows[j][i] / rows[i][i];
                let pivot = rows[i];
                rows[j].iter_mut().zip(pivot).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
        let mut solution = [0.0; 3];
        for &i in unknowns.iter().rev() {
            let known: f64 = (i + 1..3).map(|j| rows[i][j] * solution[j]).sum();
            solution[i] = (rows[i][3] - known) / rows[i][i];
        }
        Some(solution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::seeded;
    use proptest::prelude::*;

    fn squared_error(samples: &[(f64, f64)], x: [f64; 3]) -> f64 {
        samples.iter().map(|(n, y)| (y - x[0] - x[1] * n - x[2] * n * n).powi(2)).sum()
    }

    seeded! {
        /// No coefficient is below 0, and no small step within that quadrant makes the error smaller.
        #[test]
        fn optimal(samples in prop::collection::vec((0.0..8.0_f64, 0.1..50.0_f64), 1..40)) {
            let mut sums = Sums::default();
            for &(n, y) in &samples {
                sums.add(n, y, 1.0);
            }
            let solution = sums.solve();
            prop_assert!(solution.iter().all(|&x| x >= 0.0));
            let error = squared_error(&samples, solution);
            for at in 0..3 {
                for step in [-1e-3, 1e-3] {
                    let mut other = solution;
                    other[at] = f64::max(0.0, other[at] + step);
                    prop_assert!(squared_error(&samples, other) >= error * (1.0 - 1e-6) - 1e-6);
                }
            }
        }
    }

    /// Samples of one length leave the shape open: still a solution that meets them; no samples give zeros.
    #[test]
    fn degenerate() {
        assert!(Sums::default().solve().iter().all(|x| x.abs() < f64::MIN_POSITIVE));
        let mut sums = Sums::default();
        (0..10).for_each(|_| sums.add(2.0, 12.0, 1.0));
        let x = sums.solve();
        assert!((x[0] + x[1] * 2.0 + x[2] * 4.0 - 12.0).abs() < 1e-6, "{x:?}");
    }
}
