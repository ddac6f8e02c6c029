//! Token buckets from their definition: the edges are the distinct values of round(2^(k/5)).

/// The upper edge of the bucket that holds so many tokens.
#[expect(clippy::cast_sign_loss, reason = "no edge is below 0")]
pub(crate) fn edge_of(tokens: u32) -> u32 {
    let mut k = (f64::from(tokens.max(1)).log2() * 5.0).floor() as i32 - 1;
    loop {
        let edge = (f64::from(k) / 5.0).exp2().round();
        if edge >= f64::from(tokens.max(1)) {
            return edge as u32;
        }
        k += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prompt lies in the first bucket whose edge it does not exceed; powers of two are edges.
    #[test]
    fn edges() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(edge_of), [1, 1, 2, 3, 4, 5]);
        assert_eq!([4_096, 4_097, 1 << 31].map(edge_of), [4_096, 4_705, 1 << 31]);
        for tokens in 1..10_000 {
            assert!(edge_of(tokens) >= tokens && edge_of(tokens) <= edge_of(tokens + 1));
        }
    }
}
