//! Plain SVG charts: an opaque card, so that they read on light and dark pages; colours that the colour-blind can tell.

mod axis;
pub(crate) mod curves;
pub(crate) mod ranges;
mod svg;

pub(crate) use axis::label;

/// What a chart is about.
#[derive(Clone, Debug)]
pub(crate) struct Caption {
    pub(crate) title: String,
    /// Conditions and source, one string a line.
    pub(crate) lines: Vec<String>,
}

const WIDTH: f64 = 760.0;
/// Okabe and Ito's, without the yellow.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
