//! The functions of PromQL, with their types.

use crate::ast::ValueType;

/// A function's name and signature.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub id: FunctionId,
    pub args: &'static [ValueType],
    pub arity: Arity,
    pub returns: ValueType,
}

/// How many arguments a call may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One for each type.
    Exact,
    /// The last type may be absent, or occur up to so many times.
    Optional(usize),
    /// The last type may be absent, or occur any number of times.
    Any,
}

/// Finds a function by its name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

macro_rules! functions {
    ($($name:literal $id:ident ($($arg:ident),*) $arity:expr, $returns:ident;)*) => {
        /// Names a function for the evaluator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FunctionId {
            $($id,)*
        }

        /// All functions, sorted by name.
        pub static FUNCTIONS: &[Function] = &[
            $(Function {
                name: $name,
                id: FunctionId::$id,
                args: &[$(ValueType::$arg),*],
                arity: $arity,
                returns: ValueType::$returns,
            },)*
        ];
    };
}

functions! {
    "abs" Abs (Vector) Arity::Exact, Vector;
    "absent" Absent (Vector) Arity::Exact, Vector;
    "absent_over_time" AbsentOverTime (Matrix) Arity::Exact, Vector;
    "acos" Acos (Vector) Arity::Exact, Vector;
    "acosh" Acosh (Vector) Arity::Exact, Vector;
    "asin" Asin (Vector) Arity::Exact, Vector;
    "asinh" Asinh (Vector) Arity::Exact, Vector;
    "atan" Atan (Vector) Arity::Exact, Vector;
    "atanh" Atanh (Vector) Arity::Exact, Vector;
    "avg_over_time" AvgOverTime (Matrix) Arity::Exact, Vector;
    "ceil" Ceil (Vector) Arity::Exact, Vector;
    "changes" Changes (Matrix) Arity::Exact, Vector;
    "clamp" Clamp (Vector, Scalar, Scalar) Arity::Exact, Vector;
    "clamp_max" ClampMax (Vector, Scalar) Arity::Exact, Vector;
    "clamp_min" ClampMin (Vector, Scalar) Arity::Exact, Vector;
    "cos" Cos (Vector) Arity::Exact, Vector;
    "cosh" Cosh (Vector) Arity::Exact, Vector;
    "count_over_time" CountOverTime (Matrix) Arity::Exact, Vector;
    "day_of_month" DayOfMonth (Vector) Arity::Optional(1), Vector;
    "day_of_week" DayOfWeek (Vector) Arity::Optional(1), Vector;
    "day_of_year" DayOfYear (Vector) Arity::Optional(1), Vector;
    "days_in_month" DaysInMonth (Vector) Arity::Optional(1), Vector;
    "deg" Deg (Vector) Arity::Exact, Vector;
    "delta" Delta (Matrix) Arity::Exact, Vector;
    "deriv" Deriv (Matrix) Arity::Exact, Vector;
    "double_exponential_smoothing" DoubleExponentialSmoothing (Matrix, Scalar, Scalar) Arity::Exact, Vector;
    "end" End () Arity::Exact, Scalar;
    "exp" Exp (Vector) Arity::Exact, Vector;
    "first_over_time" FirstOverTime (Matrix) Arity::Exact, Vector;
    "floor" Floor (Vector) Arity::Exact, Vector;
    "histogram_avg" HistogramAvg (Vector) Arity::Exact, Vector;
    "histogram_count" HistogramCount (Vector) Arity::Exact, Vector;
    "histogram_fraction" HistogramFraction (Scalar, Scalar, Vector) Arity::Exact, Vector;
    "histogram_quantile" HistogramQuantile (Scalar, Vector) Arity::Exact, Vector;
    "histogram_quantiles" HistogramQuantiles (Vector, String, Scalar, Scalar) Arity::Optional(9), Vector;
    "histogram_stddev" HistogramStddev (Vector) Arity::Exact, Vector;
    "histogram_stdvar" HistogramStdvar (Vector) Arity::Exact, Vector;
    "histogram_sum" HistogramSum (Vector) Arity::Exact, Vector;
    "hour" Hour (Vector) Arity::Optional(1), Vector;
    "idelta" Idelta (Matrix) Arity::Exact, Vector;
    "increase" Increase (Matrix) Arity::Exact, Vector;
    "info" Info (Vector, Vector) Arity::Optional(1), Vector;
    "irate" Irate (Matrix) Arity::Exact, Vector;
    "label_join" LabelJoin (Vector, String, String, String) Arity::Any, Vector;
    "label_replace" LabelReplace (Vector, String, String, String, String) Arity::Exact, Vector;
    "last_over_time" LastOverTime (Matrix) Arity::Exact, Vector;
    "ln" Ln (Vector) Arity::Exact, Vector;
    "log10" Log10 (Vector) Arity::Exact, Vector;
    "log2" Log2 (Vector) Arity::Exact, Vector;
    "mad_over_time" MadOverTime (Matrix) Arity::Exact, Vector;
    "max_of" MaxOf (Scalar, Scalar) Arity::Exact, Scalar;
    "max_over_time" MaxOverTime (Matrix) Arity::Exact, Vector;
    "min_of" MinOf (Scalar, Scalar) Arity::Exact, Scalar;
    "min_over_time" MinOverTime (Matrix) Arity::Exact, Vector;
    "minute" Minute (Vector) Arity::Optional(1), Vector;
    "month" Month (Vector) Arity::Optional(1), Vector;
    "pi" Pi () Arity::Exact, Scalar;
    "predict_linear" PredictLinear (Matrix, Scalar) Arity::Exact, Vector;
    "present_over_time" PresentOverTime (Matrix) Arity::Exact, Vector;
    "quantile_over_time" QuantileOverTime (Scalar, Matrix) Arity::Exact, Vector;
    "rad" Rad (Vector) Arity::Exact, Vector;
    "range" Range () Arity::Exact, Scalar;
    "rate" Rate (Matrix) Arity::Exact, Vector;
    "resets" Resets (Matrix) Arity::Exact, Vector;
    "round" Round (Vector, Scalar) Arity::Optional(1), Vector;
    "scalar" Scalar (Vector) Arity::Exact, Scalar;
    "sgn" Sgn (Vector) Arity::Exact, Vector;
    "sin" Sin (Vector) Arity::Exact, Vector;
    "sinh" Sinh (Vector) Arity::Exact, Vector;
    "sort" Sort (Vector) Arity::Exact, Vector;
    "sort_by_label" SortByLabel (Vector, String) Arity::Any, Vector;
    "sort_by_label_desc" SortByLabelDesc (Vector, String) Arity::Any, Vector;
    "sort_desc" SortDesc (Vector) Arity::Exact, Vector;
    "sqrt" Sqrt (Vector) Arity::Exact, Vector;
    "start" Start () Arity::Exact, Scalar;
    "start_timestamp" StartTimestamp (Vector) Arity::Exact, Vector;
    "stddev_over_time" StddevOverTime (Matrix) Arity::Exact, Vector;
    "stdvar_over_time" StdvarOverTime (Matrix) Arity::Exact, Vector;
    "step" Step () Arity::Exact, Scalar;
    "sum_over_time" SumOverTime (Matrix) Arity::Exact, Vector;
    "tan" Tan (Vector) Arity::Exact, Vector;
    "tanh" Tanh (Vector) Arity::Exact, Vector;
    "time" Time () Arity::Exact, Scalar;
    "timestamp" Timestamp (Vector) Arity::Exact, Vector;
    "ts_of_first_over_time" TsOfFirstOverTime (Matrix) Arity::Exact, Vector;
    "ts_of_last_over_time" TsOfLastOverTime (Matrix) Arity::Exact, Vector;
    "ts_of_max_over_time" TsOfMaxOverTime (Matrix) Arity::Exact, Vector;
    "ts_of_min_over_time" TsOfMinOverTime (Matrix) Arity::Exact, Vector;
    "vector" Vector (Scalar) Arity::Exact, Vector;
    "year" Year (Vector) Arity::Optional(1), Vector;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_so_that_they_can_be_found() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(FUNCTIONS.iter().all(|known| function(known.name).is_some_and(|found| found.id == known.id)));
        assert!(function("unknown").is_none());
    }
}
