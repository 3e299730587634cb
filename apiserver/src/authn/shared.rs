//! Users of client certificates, each kept once for all connections that show the same certificate.

use std::{collections::HashSet, sync::Arc};

use martello_api::identity::User;
use parking_lot::Mutex;

/// Users of connections that are open. Some have a connection for each of their watches.
#[derive(Debug, Default)]
pub struct SharedUsers(Mutex<HashSet<Arc<User>>>);

impl SharedUsers {
    /// The same user, shared with whoever else is the same in every respect.
    pub fn share(&self, user: User) -> Arc<User> {
        let mut users = self.0.lock();
        if let Some(known) = users.get(&user) {
            return Arc::clone(known);
        }
        if users.len() == users.capacity() {
            // Before there is made room for more: those whose connections have ended.
            users.retain(|user| Arc::strong_count(user) > 1);
        }
        let user = Arc::new(user);
        users.insert(Arc::clone(&user));
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, group: &str) -> User {
        User { name: name.to_owned(), groups: vec![group.to_owned()], ..User::default() }
    }

    #[test]
    fn only_who_is_the_same_in_every_respect_is_shared() {
        let users = SharedUsers::default();
        let jane = users.share(user("jane", "a"));
        assert!(Arc::ptr_eq(&jane, &users.share(user("jane", "a"))));
        let other = users.share(user("jane", "b"));
        assert_eq!((other.groups.as_slice(), jane.groups.as_slice()), (&["b".to_owned()][..], &["a".to_owned()][..]));
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let users = SharedUsers::default();
        let jane = users.share(user("jane", "a"));
        for number in 0..1000 {
            users.share(user(&format!("user-{number}"), "a"));
        }
        assert!(users.0.lock().len() < 10);
        assert!(Arc::ptr_eq(&jane, &users.share(user("jane", "a"))));
    }
}
