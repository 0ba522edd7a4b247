//! A node that starts while its earlier run is being stopped, as when it is upgraded: the addresses are still
//! taken, and will be free in a moment. Whoever else holds them is told of at once.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_cluster::clock;
use sluicegate_lb::StartError;
use tokio::runtime::Runtime;

/// For an earlier run to end that says so.
const EARLIER_RUN: Duration = Duration::from_secs(20);
/// For the last of its addresses, when nobody answers at its admin listener any more.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// Between looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For an earlier run to say that it is being stopped.
const ANSWER: Duration = Duration::from_secs(1);

/// What `bind` binds, once an earlier run of this node, whose admin listener is `admin`, has let go of it.
pub(crate) fn when_free<T>(
    runtime: &Runtime,
    admin: SocketAddr,
    bind: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = clock::now();
    // Its listeners close one after another: what it said once still holds when it says nothing any more.
    let mut patience = Duration::ZERO;
    loop {
        let error = match bind() {
            Err(error) if error.downcast_ref::<StartError>().is_some_and(StartError::is_in_use) => error,
            bound => return bound,
        };
        if patience < EARLIER_RUN {
            patience = patience.max(runtime.block_on(patience_with(admin)));
        }
        if clock::now().duration_since(began) >= patience {
            return Err(error);
        }
        runtime.block_on(async { tokio::time::sleep(LOOK_EVERY).await });
    }
}

/// How long what is at `admin` is waited for: a node that says that it is being stopped, nobody, or somebody who
/// stays.
async fn patience_with(admin: SocketAddr) -> Duration {
    let asking = async {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        client.get(format!("http://{admin}/readyz")).send().await?.text().await
    };
    match asking.await {
        Ok(answer) if answer.trim() == "stopping" => EARLIER_RUN,
        Err(error) if error.is_connect() => LAST_MOMENTS,
        _ => Duration::ZERO,
    }
}
