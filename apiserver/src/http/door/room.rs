//! Room for what is large, of all requests together: the memory of the server ends, however many send how much.

use std::{
    cmp::min,
    sync::{Arc, LazyLock},
};

use martello_api::status::{ApiError, Details};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::flow::PATIENCE;

/// From how many bytes on a body or an object is large. What is smaller takes no room, and waits for none.
pub(super) const LARGE_BYTES: usize = 64 * 1024;
/// Bytes of large bodies that requests without an end hold at once, which no seat bounds: 85 of the largest.
const LASTING_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of large objects that are changed at once: five of the largest bodies. As values, of which there are several while it
/// is decoded, changed and compared, an object may take fifty times its bytes.
const OBJECTS_BYTES: usize = 16 * 1024 * 1024;

/// The room for bodies of requests without an end.
pub(super) static LASTING: LazyLock<Room> = LazyLock::new(|| Room::new(LASTING_BYTES));
/// The room for objects that are changed.
pub(super) static OBJECTS: LazyLock<Room> = LazyLock::new(|| Room::new(OBJECTS_BYTES));

/// So many bytes.
pub(super) struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
}

/// A part of a room, as long as this is there; none of what is not large.
pub(super) type Part = Option<OwnedSemaphorePermit>;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// Room for so many bytes. Who comes first is served first, and waits as long as for a seat.
    ///
    /// # Errors
    /// 429 where there is none in time.
    pub(super) async fn part(&self, bytes: usize, ends: Instant) -> Result<Part, ApiError> {
        if bytes < LARGE_BYTES {
            return Ok(None);
        }
        let bytes = u32::try_from(min(bytes, self.bytes)).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.free).acquire_many_owned(bytes);
        match timeout_at(min(ends, Instant::now() + PATIENCE), free).await {
            Ok(Ok(part)) => Ok(Some(part)),
            _ => Err(full()),
        }
    }
}

fn full() -> ApiError {
    let why = "the server is at work on as many large objects as it has room for, please try again later";
    let mut error = ApiError::new(429, "TooManyRequests", why);
    error.details = Some(Box::new(Details { retry_after_seconds: 1, ..Details::default() }));
    error
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    #[tokio::test]
    async fn what_is_large_waits_for_room_and_is_refused_in_time() {
        let room = Room::new(3 * LARGE_BYTES);
        let first = room.part(2 * LARGE_BYTES, soon()).await.unwrap();
        let error = room.part(2 * LARGE_BYTES, soon()).await.unwrap_err();
        assert_eq!((error.code, error.details.unwrap().retry_after_seconds), (429, 1));
        // Who waited in vain leaves nothing behind, and what is small needs no room.
        let rest = room.part(LARGE_BYTES, soon()).await.unwrap();
        assert!(rest.is_some() && room.part(LARGE_BYTES - 1, soon()).await.unwrap().is_none());
        let waits = room.part(2 * LARGE_BYTES, Instant::now() + PATIENCE);
        let (waited, ()) = tokio::join!(waits, async { drop(first) });
        assert!(waited.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_larger_than_the_room_has_all_of_it() {
        let room = Room::new(LARGE_BYTES);
        let all = room.part(10 * LARGE_BYTES, soon()).await.unwrap();
        assert!(room.part(LARGE_BYTES, soon()).await.is_err());
        drop(all);
        assert!(room.part(LARGE_BYTES, soon()).await.is_ok());
    }
}
