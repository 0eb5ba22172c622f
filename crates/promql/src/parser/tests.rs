//! Tables: what parses and how it prints, and what does not parse and why.

use super::parse;
