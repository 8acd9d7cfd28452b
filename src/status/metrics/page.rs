//! Metrics on their way into either format.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::histogram::Histogram;

/// A metric's name, and what it says.
///
/// The unit becomes the end of the name, and `_total` that of a counter.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: &'static str,
    pub unit: Option<Unit>,
    pub help: &'static str,
}

impl Metric {
    /// A count, or a number without a unit.
    pub const fn plain(name: &'static str, help: &'static str) -> Self {
        let unit = None;
        Self { name, unit, help }
    }

    /// A time in seconds.
    pub const fn seconds(name: &'static str, help: &'static str) -> Self {
        let unit = Some(Unit::Seconds);
        Self { name, unit, help }
    }
}

/// Takes metrics one after the other. A metric without a sample still says what
/// it is.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// What can go up and down.
    pub fn gauge<L: EncodeLabelSet>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (L, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(metric, MetricType::Gauge)?;
        for (labels, value) in samples {
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// What is counted from the start of the process.
    pub fn counter<L: EncodeLabelSet>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (L, impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(metric, MetricType::Counter)?;
        for (labels, value) in samples {
            let exemplar = None::<&Exemplar<NoLabelSet, f64>>;
            encoder
                .encode_family(&labels)?
                .encode_counter(&value, exemplar)?;
        }
        Ok(())
    }

    /// How values are spread.
    pub fn histogram<'h, L: EncodeLabelSet>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(metric, MetricType::Histogram)?;
        for (labels, value) in samples {
            encoder
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    value.sum(),
                    value.count(),
                    &value.buckets(),
                    None,
                )?;
        }
        Ok(())
    }

    /// What is told by labels alone. The name gets `_info` at its end.
    pub fn info(&mut self, metric: &Metric, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.begin(metric, MetricType::Info)?.encode_info(labels)
    }

    fn begin<'s>(
        &'s mut self,
        metric: &'s Metric,
        metric_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0
            .encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), metric_type)
    }
}

/// A single sample, without a label.
pub(super) fn one<V>(value: V) -> [([(&'static str, &'static str); 0], V); 1] {
    [([], value)]
}
