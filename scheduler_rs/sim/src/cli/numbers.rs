//! Numbers of the command line: another word, or a number out of its range, is told what is allowed.

use crate::error::written;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A parser of whole numbers in this range.
pub(super) fn whole<T>(
    allowed: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |given| {
        let number = given.parse().ok().filter(|number| allowed.contains(number));
        number.ok_or_else(|| format!("must be a whole number from {} to {}", allowed.start(), allowed.end()))
    }
}

/// A parser of numbers in this range; what is not a number (`NaN`) is in none.
pub(super) fn real(
    allowed: RangeInclusive<f64>,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |given| {
        let number = given.parse().ok().filter(|number| allowed.contains(number));
        number.ok_or_else(|| {
            format!("must be a number from {} to {}", written(*allowed.start()), written(*allowed.end()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends belong to a range, and what is outside or no number at all is told both.
    #[test]
    fn ranges() {
        let whole = whole(2_u32..=40);
        assert_eq!(["2", "40"].map(&whole), [Ok(2), Ok(40)]);
        for given in ["1", "41", "-1", "2.5", "", "two", "99999999999999999999"] {
            assert_eq!(whole(given), Err("must be a whole number from 2 to 40".to_owned()), "{given}");
        }
        let real = real(0.5..=1e300);
        assert_eq!(["0.5", "7"].map(&real), [Ok(0.5), Ok(7.0)]);
        for given in ["0.4", "inf", "NaN", "-1", "much"] {
            assert_eq!(real(given), Err("must be a number from 0.5 to 1e300".to_owned()), "{given}");
        }
    }
}
