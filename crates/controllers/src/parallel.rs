use futures::{StreamExt, stream};

use crate::Error;

/// Requests in flight at once for one object.
const PARALLEL: usize = 16;

/// Makes requests side by side. All are made and waited for, also after one has failed; of the
/// failures the first to happen is returned.
pub(crate) async fn all<F>(requests: Vec<F>) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let results: Vec<_> = stream::iter(requests).buffer_unordered(PARALLEL).collect().await;
    results.into_iter().collect()
}
