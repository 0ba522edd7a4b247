//! placeholder

pub mod rtmp;
