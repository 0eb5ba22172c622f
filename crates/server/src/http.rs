//! HTTP: the route table, the way of a request through it, errors, headers, the page's files.

pub mod call;
pub mod dispatch;
pub mod error;
pub mod headers;
pub mod page;
pub mod routes;
pub mod table;

pub use call::Call;
pub use error::{ApiError, Dialect};
pub use table::{Answer, Listener, Route};
