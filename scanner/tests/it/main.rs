//! Images from outside: what is honest works end to end, what is hostile is refused with a reason.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_registry;
#[cfg(test)]
mod import;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod store;
