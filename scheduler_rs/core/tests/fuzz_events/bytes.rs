//! Numbers from bytes, so that any file is a sequence of calls.

/// What is left to read; zeros once it is used up.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// Mostly small, sometimes huge.
    pub(crate) fn number(&mut self) -> u64 {
        let byte = self.byte();
        if byte < 200 { u64::from(byte) } else { u64::from(self.byte()) << (byte - 200) }
    }

    pub(crate) fn small(&mut self) -> u32 {
        self.number() as u32
    }

    /// 0 to `below` - 1, but now and then `below` itself, which is wrong.
    pub(crate) fn mostly_below(&mut self, below: u32) -> u32 {
        let byte = self.byte();
        if byte == u8::MAX { below } else { u32::from(byte) % below }
    }

    pub(crate) fn one_in(&mut self, times: u8) -> bool {
        self.byte().is_multiple_of(times)
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// None, or within what a clock shows in nine years.
    pub(crate) fn time_ns(&mut self) -> u64 {
        if self.one_in(4) { self.number().min(1 << 58) } else { 0 }
    }
}
