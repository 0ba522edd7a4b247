//! Other servers that do the same work, run beside ours in the same script.

pub(crate) mod mediamtx;
pub(crate) mod nginx;
pub(crate) mod nginx_rtmp;
