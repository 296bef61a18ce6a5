//! Prometheus' text format, version 0.0.4: every family has its HELP and TYPE once, before its samples.

use std::fmt::{Display, Write as _};

use super::histogram::Reading;

/// A text under construction.
#[derive(Debug, Default)]
pub struct Text(String);

/// `# TYPE` of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Text {
    /// A family whose samples `fill` writes. `name` has the prefix `sluice_` added.
    pub fn family(&mut self, kind: Kind, name: &str, help: &str, fill: impl FnOnce(&mut Family<'_>)) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(kind, name, help);
        fill(&mut Family { text: &mut self.0, name });
    }

    /// A family of one histogram.
    pub fn histogram(&mut self, name: &str, help: &str, reading: &Reading) {
        self.head("histogram", name, help);
        for (bound, count) in &reading.buckets {
            let _ = writeln!(self.0, "sluice_{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.0, "sluice_{name}_bucket{{le=\"+Inf\"}} {}", reading.count);
        let _ = writeln!(self.0, "sluice_{name}_sum {}", reading.sum);
        let _ = writeln!(self.0, "sluice_{name}_count {}", reading.count);
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.0, "# HELP sluice_{name} {help}\n# TYPE sluice_{name} {kind}");
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

/// Where a family's samples go.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.text, "sluice_{}", self.name);
        for (n, (label, value)) in labels.iter().enumerate() {
            let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if n == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}
