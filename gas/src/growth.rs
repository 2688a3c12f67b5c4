//! How the cost of a method grows with what it is given, and which fuel limit suffices.
//!
//! Points are pairs of a size (of an argument, or one that a test names with `kit.sized`) and the fuel of a call that had it. A model
//! `a + b f(n)` is fitted to them by least squares, for `f(n)` of 1, n, n log n, n²; the simplest is taken that explains them nearly as
//! well as the best.

use crate::records::Records;
use serde::Serialize;
use serde_json::Value;
use slackline_testkit::record::{Execution, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Different sizes that a fit needs.
pub const LEAST_SIZES: usize = 4;

/// How much more of the variance another model must explain to be preferred to a simpler one.
const BETTER: f64 = 0.005;

/// Of the variation of fuel, what a model must explain to be told.
const EXPLAINED: f64 = 0.9;

/// A form that growth can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// It costs the same.
    Constant,
    /// So much more for each.
    Linear,
    /// As sorting does.
    Linearithmic,
    /// As what is done for all pairs.
    Quadratic,
}

impl Model {
    /// The models, simplest first.
    pub const ALL: [Model; 4] = [
        Model::Constant,
        Model::Linear,
        Model::Linearithmic,
        Model::Quadratic,
    ];

    fn of(self, n: f64) -> f64 {
        match self {
            Model::Constant => 0.0,
            Model::Linear => n,
            Model::Linearithmic => n * (n + 1.0).log2(),
            Model::Quadratic => n * n,
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Model::Constant => "constant",
            Model::Linear => "linear",
            Model::Linearithmic => "n log n",
            Model::Quadratic => "quadratic",
        }
    }
}

/// `base + per_unit f(n)`, in fuel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Its form.
    pub model: Model,
    /// What it costs without anything, in fuel.
    pub base: f64,
    /// What a unit of `f(n)` costs, in fuel; 0 of [`Model::Constant`].
    pub per_unit: f64,
    /// The part of the variation that it explains, up to 1.
    pub r_squared: f64,
}

impl Fit {
    /// What it says of size `n`, in fuel.
    pub fn at(&self, n: f64) -> f64 {
        self.base + self.per_unit * self.model.of(n)
    }

    /// As in `240,000 + 1,200 n`.
    pub fn formula(&self) -> String {
        let number = |fuel: f64| crate::table::grouped(fuel.abs().round() as u64);
        let base = match self.base < -0.5 {
            true => format!("-{}", number(self.base)),
            false => number(self.base),
        };
        let unit = match self.per_unit < 10.0 {
            true => format!("{:.2}", self.per_unit),
            false => number(self.per_unit),
        };
        match self.model {
            Model::Constant => base,
            Model::Linear => format!("{base} + {unit} n"),
            Model::Linearithmic => format!("{base} + {unit} n log2(n + 1)"),
            Model::Quadratic => format!("{base} + {unit} n²"),
        }
    }
}

/// Fits `points`, of size and fuel. `None` if there are too few sizes, or no model explains them.
pub fn fit(points: &[(u64, u64)]) -> Option<Fit> {
    let sizes: BTreeSet<u64> = points.iter().map(|(size, _)| *size).collect();
    if sizes.len() < LEAST_SIZES {
        return None;
    }
    let count = points.len() as f64;
    let mean = points.iter().map(|(_, fuel)| *fuel as f64).sum::<f64>() / count;
    let square = |x: f64| x * x;
    let variation: f64 = points
        .iter()
        .map(|(_, fuel)| square(*fuel as f64 - mean))
        .sum();
    // Less than a percent up and down is nothing that anybody would call growth.
    let spread = points
        .iter()
        .map(|(_, fuel)| (*fuel as f64 - mean).abs())
        .fold(0.0, f64::max);
    if spread <= mean * 0.005 {
        return Some(Fit {
            model: Model::Constant,
            base: mean,
            per_unit: 0.0,
            r_squared: 1.0,
        });
    }
    let fitted = Model::ALL[1..].iter().filter_map(|&model| {
        let xs = points.iter().map(|(size, _)| model.of(*size as f64));
        let mean_x = xs.clone().sum::<f64>() / count;
        let variation_x: f64 = xs.clone().map(|x| square(x - mean_x)).sum();
        let together: f64 = xs
            .zip(points)
            .map(|(x, (_, fuel))| (x - mean_x) * (*fuel as f64 - mean))
            .sum();
        let per_unit = together / variation_x;
        let fit = Fit {
            model,
            base: mean - per_unit * mean_x,
            per_unit,
            r_squared: 0.0,
        };
        let left: f64 = points
            .iter()
            .map(|(size, fuel)| square(*fuel as f64 - fit.at(*size as f64)))
            .sum();
        (per_unit > 0.0).then_some(Fit {
            r_squared: 1.0 - left / variation,
            ..fit
        })
    });
    let fitted: Vec<Fit> = fitted.collect();
    let best = fitted.iter().map(|fit| fit.r_squared).fold(0.0, f64::max);
    if best < EXPLAINED {
        return None;
    }
    // Of what is not explained by the best, a simpler one may leave a little more.
    fitted
        .into_iter()
        .find(|fit| fit.r_squared >= best - BETTER * (1.0 - EXPLAINED).max(1.0 - best))
}

/// What is advised for a method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The contract.
    pub contract: String,
    /// The method; `(deployment)` of deployments.
    pub method: String,
    /// Transactions that succeeded.
    pub calls: u64,
    /// The most that one used, in fuel.
    pub most_used: u64,
    /// The lowest limit with which all would have succeeded, in fuel, each for itself: higher than what was used when a callee gets but a
    /// share of what is left. `None` when it was not looked for.
    pub least_limit: Option<u64>,
    /// What is proposed, in fuel.
    pub proposed: u64,
    /// How it grows, by what.
    pub growth: Vec<Growth>,
}

/// How a method's cost grows with something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// A name that a test gave, or `argument x`, `length of argument x`.
    pub with: String,
    /// Sizes and fuel.
    pub points: Vec<(u64, u64)>,
    /// The model that explains them, if one does.
    pub fit: Option<Fit>,
}

impl Growth {
    /// Whether it does not grow, or nobody knows how.
    pub fn is_constant(&self) -> bool {
        self.fit.is_none_or(|fit| fit.model == Model::Constant)
    }
}

/// Advice for all methods that were called by transactions, and growth of views too. `margin` is in percent.
pub fn advise(records: &Records, margin: f64) -> Vec<Advice> {
    let names = records.names();
    let mut methods: BTreeMap<(String, String), Vec<&Execution>> = BTreeMap::new();
    for execution in &records.executions {
        let (Some(code), "success") = (execution.code, execution.outcome.as_str()) else {
            continue;
        };
        let method = match execution.kind {
            Kind::Deploy => "(deployment)".to_owned(),
            Kind::View => format!("{} (view)", execution.method.as_deref().unwrap_or_default()),
            _ => execution.method.clone().unwrap_or_default(),
        };
        let contract = names.get(&code).cloned().unwrap_or_default();
        methods
            .entry((contract, method))
            .or_default()
            .push(execution);
    }
    let advice = methods.into_iter().map(|((contract, method), made)| {
        let most_used = made.iter().map(|made| made.fuel_used).max().unwrap_or(0);
        let least = made.iter().filter_map(|made| made.least_limit).max();
        let needed = least.unwrap_or(0).max(most_used);
        Advice {
            contract,
            method,
            calls: made.len() as u64,
            most_used,
            least_limit: least,
            proposed: rounded_up(needed as f64 * (1.0 + margin / 100.0)),
            growth: growth(&made),
        }
    });
    advice.collect()
}

/// To two digits, as people would write a limit.
fn rounded_up(fuel: f64) -> u64 {
    let mut unit = 1.0;
    while fuel / unit >= 100.0 {
        unit *= 10.0;
    }
    ((fuel / unit).ceil() * unit) as u64
}

fn growth(made: &[&Execution]) -> Vec<Growth> {
    let mut by: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for made in made {
        for (name, size) in &made.sizes {
            by.entry(name.clone())
                .or_default()
                .push((*size, made.fuel_used));
        }
        // Where a test says what counts, arguments would only repeat it.
        if made.sizes.is_empty()
            && let Some(Value::Object(args)) = &made.args
        {
            for (name, value) in args {
                if let Some((what, size)) = size_of(value) {
                    let with = format!("{what}{name}");
                    by.entry(with).or_default().push((size, made.fuel_used));
                }
            }
        }
    }
    let mut all: Vec<Growth> = by
        .into_iter()
        .filter(|(_, points)| {
            points
                .iter()
                .map(|(size, _)| size)
                .collect::<BTreeSet<_>>()
                .len()
                >= LEAST_SIZES
        })
        .map(|(with, mut points)| {
            points.sort_unstable();
            Growth {
                fit: fit(&points),
                with,
                points,
            }
        })
        .collect();
    // What says nothing is left out.
    all.retain(|growth| growth.fit.is_some());
    all.sort_by(|a, b| a.with.cmp(&b.with));
    all
}

/// What of an argument its size is.
fn size_of(value: &Value) -> Option<(&'static str, u64)> {
    match value {
        Value::Array(items) => Some(("length of ", items.len() as u64)),
        // Integers of 64 bits and more are text in this JSON; so are addresses and bytes, in hexadecimal.
        Value::String(text) => match text.parse() {
            Ok(number) if text.len() < 20 => Some(("argument ", number)),
            _ => Some(("length of ", text.len() as u64)),
        },
        Value::Number(number) => Some(("argument ", number.as_u64()?)),
        _ => None,
    }
}

/// A picture of points and the curve through them, as SVG.
pub fn plot(title: &str, growth: &Growth) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 420.0;
    const LEFT: f64 = 110.0;
    const RIGHT: f64 = 20.0;
    const TOP: f64 = 50.0;
    const BOTTOM: f64 = 60.0;
    let most = |of: fn(&(u64, u64)) -> u64| growth.points.iter().map(of).max().unwrap_or(0).max(1);
    let (most_size, most_fuel) = (most(|point| point.0), most(|point| point.1));
    let (step_x, step_y) = (step(most_size), step(most_fuel));
    let (end_x, end_y) = (
        most_size.div_ceil(step_x) * step_x,
        most_fuel.div_ceil(step_y) * step_y,
    );
    let x = |size: f64| LEFT + size / end_x as f64 * (WIDTH - LEFT - RIGHT);
    let y = |fuel: f64| HEIGHT - BOTTOM - fuel / end_y as f64 * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    // Writing to a string cannot fail.
    for at in (0..=end_y / step_y).map(|at| at * step_y) {
        let (height, text) = (y(at as f64), crate::table::grouped(at));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            height + 4.0
        );
    }
    for at in (0..=end_x / step_x).map(|at| at * step_x) {
        let (place, text) = (x(at as f64), crate::table::grouped(at));
        let _ = writeln!(
            svg,
            "<text x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text x=\"{:.1}\" y=\"{:.1}\">fuel</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 16.0,
        escaped(&growth.with),
        LEFT - 40.0,
        TOP - 10.0
    );
    if let Some(fit) = &growth.fit {
        let curve = (0..=100).map(|part| {
            let size = end_x as f64 * f64::from(part) / 100.0;
            format!(
                "{:.1},{:.1}",
                x(size),
                y(fit.at(size).clamp(0.0, end_y as f64))
            )
        });
        let curve: Vec<String> = curve.collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#c33\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c33\">{}: {}</text>",
            curve.join(" "),
            LEFT + 12.0,
            TOP + 12.0,
            fit.model.name(),
            escaped(&fit.formula())
        );
    }
    for (size, fuel) in &growth.points {
        let (x, y) = (x(*size as f64), y(*fuel as f64));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#246\"/>"
        );
    }
    svg + "</svg>\n"
}

/// A round number, of which some five fit into `most`.
fn step(most: u64) -> u64 {
    let mut unit = 1;
    loop {
        for factor in [1, 2, 5] {
            if most / (unit * factor) <= 6 {
                return unit * factor;
            }
        }
        unit *= 10;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

    use super::*;
    use proptest::prelude::*;

    const SIZES: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

    fn points(of: impl Fn(f64) -> f64) -> Vec<(u64, u64)> {
        SIZES
            .iter()
            .map(|size| (*size, of(*size as f64) as u64))
            .collect()
    }

    proptest! {
        #[test]
        fn the_model_that_made_the_points_is_found(
            at in 0usize..4, base in 1_000f64..1e6, per_unit in 1_000f64..1e5, noise in 0.0f64..0.001,
        ) {
            let model = Model::ALL[at];
            let wave = |n: f64| 1.0 + noise * (n * 7.0).sin();
            let fit = fit(&points(|n| (base + per_unit * model.of(n)) * wave(n))).unwrap();
            prop_assert_eq!(fit.model, model);
        }
    }

    #[test]
    fn what_does_not_grow_with_it_is_not_explained_by_it() {
        let random = [(1, 900), (2, 100), (3, 800), (4, 50), (5, 700), (6, 850)];
        assert_eq!(fit(&random), None);
        let few = [(1, 100), (2, 200), (2, 200), (3, 300)];
        assert_eq!(fit(&few), None);
        let falling = [(1, 400), (2, 300), (3, 200), (4, 100)];
        assert_eq!(fit(&falling), None);
    }

    #[test]
    fn limits_are_round() {
        for (fuel, limit) in [(7.0, 7), (99.1, 100), (101.0, 110), (633_401.0, 640_000)] {
            assert_eq!(rounded_up(fuel), limit);
        }
    }

    #[test]
    fn pictures_are_well_formed() {
        let growth = Growth {
            with: "orders <&>".to_owned(),
            points: points(|n| 500.0 + 3.0 * n),
            fit: fit(&points(|n| 500.0 + 3.0 * n)),
        };
        let svg = plot("a.b", &growth);
        assert_eq!(svg.matches("<circle").count(), SIZES.len());
        assert!(svg.contains("linear: 500 + 3.00 n"), "{svg}");
        assert!(svg.contains("orders &lt;&amp;&gt;"));
    }
}
