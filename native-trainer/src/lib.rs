//! Paddock natively.
