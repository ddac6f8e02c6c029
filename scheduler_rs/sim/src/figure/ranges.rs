//! A row for each thing that is compared, with a range (two values joined) for each series, on a logarithmic axis.

use super::axis::{Axis, label};
use super::svg::{Anchor, Svg};
use super::{COLOURS, Caption, WIDTH};

#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    pub(crate) caption: Caption,
    /// With its unit.
    pub(crate) axis: String,
    /// What the two ends of a range are.
    pub(crate) ends: [&'static str; 2],
    pub(crate) series: Vec<String>,
    /// A label, and a range or nothing for each series.
    pub(crate) rows: Vec<(String, Vec<Option<[f64; 2]>>)>,
}

const LEFT: f64 = 120.0;
const RIGHT: f64 = WIDTH - 24.0;
const LINE: f64 = 15.0;

impl Ranges {
    pub(crate) fn svg(&self) -> String {
        let row_height = LINE * self.series.len() as f64 + 14.0;
        let rows_height = row_height * self.rows.len() as f64;
        let (mut svg, top) = Svg::new(&self.caption, rows_height + 88.0);
        let top = top + self.legend(&mut svg, top + 14.0);
        let values = self.rows.iter().flat_map(|row| row.1.iter().flatten().flatten().copied());
        let axis = Axis::logarithmic(values, LEFT, RIGHT);
        let bottom = top + rows_height;
        for tick in axis.ticks() {
            let x = axis.place(tick);
            svg.grid_line([x, top], [x, bottom]);
            svg.text([x, bottom + 17.0], Anchor::Middle, &label(tick), "");
        }
        svg.text([f64::midpoint(LEFT, RIGHT), bottom + 37.0], Anchor::Middle, &self.axis, "");
        for ((name, ranges), at) in self.rows.iter().zip(0_u8..) {
            let row = top + row_height * f64::from(at);
            svg.grid_line([16.0, row], [RIGHT, row]);
            svg.text([LEFT - 10.0, row + row_height / 2.0 + 4.0], Anchor::End, name, "");
            for ((range, colour), line) in ranges.iter().zip(COLOURS).zip(0_u8..) {
                let y = row + 14.0 + LINE * f64::from(line);
                if let Some(range) = range {
                    let [from, to] = range.map(|value| [axis.place(value), y]);
                    svg.line(from, to, colour, 2.0);
                    svg.dot(from, colour, false);
                    svg.dot(to, colour, true);
                }
            }
        }
        svg.finish()
    }

    /// Returns its height.
    fn legend(&self, svg: &mut Svg, y: f64) -> f64 {
        let mut x = LEFT;
        for (name, colour) in self.series.iter().zip(COLOURS) {
            svg.line([x, y - 4.0], [x + 30.0, y - 4.0], colour, 2.0);
            svg.dot([x, y - 4.0], colour, false);
            svg.dot([x + 30.0, y - 4.0], colour, true);
            let [from, to] = self.ends;
            let text = format!("{name}: {from} to {to}");
            svg.text([x + 42.0, y], Anchor::Start, &text, "");
            x += 70.0 + 7.2 * text.chars().count() as f64;
        }
        30.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of every range stand in the chart, with a legend and the axis' unit; text is escaped.
    #[test]
    fn chart() {
        let caption = Caption { title: "a < b".to_owned(), lines: vec!["SIMULATED".to_owned()] };
        let chart = Ranges {
            caption,
            axis: "seconds".to_owned(),
            ends: ["P50", "P99"],
            series: vec!["short".to_owned(), "long".to_owned()],
            rows: vec![
                ("hrrn".to_owned(), vec![Some([0.1, 1.0]), None]),
                ("sjf".to_owned(), vec![Some([0.1, 10.0]), Some([1.0, 2.0])]),
            ],
        };
        let svg = chart.svg();
        let [from, to] =
            [0.1, 10.0].map(|value| Axis::logarithmic([0.1, 10.0].into_iter(), LEFT, RIGHT).place(value));
        assert!(svg.contains(&format!("cx=\"{from:.1}\"")) && svg.contains(&format!("cx=\"{to:.1}\"")));
        for text in ["a &lt; b", ">SIMULATED<", ">seconds<", "short: P50 to P99", ">hrrn<"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<circle").count(), 2 * (3 + 2));
    }
}
