//! Certificates, keys and passwords in files, taken over when those change.

use std::sync::Arc;

use sluicegate_cluster::watched::{Reread, WatchedFiles};
use tokio::runtime::Runtime;

use super::Common;

/// Starts looking at the files of everything that this node has read from some.
pub(super) fn watch(
    common: &Common,
    certificates: Option<Arc<dyn Reread>>,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    let settings = &common.settings;
    let keys = settings.apps.iter().flat_map(|app| [&app.token_keys, &app.rest_keys]);
    let mut contents: Vec<Arc<dyn Reread>> = keys.map(|keys| Arc::new(keys.clone()) as _).collect();
    contents.push(Arc::new(settings.cluster.key.clone()));
    contents.extend(common.access.login().map(|login| Arc::clone(login) as Arc<dyn Reread>));
    contents.extend(common.store_login.clone());
    contents.extend(certificates);
    let files = WatchedFiles::new(contents, &common.registry)?;
    common.tasks.spawn_on(files.follow(common.stop.clone()), runtime.handle());
    Ok(())
}
