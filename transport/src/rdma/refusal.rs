//! What a failed call means: by its number, and where that says nothing, by what this machine has.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};
use std::path::Path;

use crate::rdma::verbs::{VerbsError, VerbsErrorKind};

/// The call that just failed on this thread, by `errno`.
#[cfg(feature = "rdma")]
pub(crate) fn last(call: &'static str) -> VerbsError {
    of(call, Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A call that failed with that number, positive.
#[cfg(any(feature = "rdma", test))]
pub(crate) fn of(call: &'static str, errno: i32) -> VerbsError {
    VerbsError { call, kind: kind_of(call, errno), errno: Some(errno) }
}

/// Calls that look for the device of an address.
const BY_ADDRESS: [&str; 4] =
    ["rdma_bind_addr", "rdma_listen", "rdma_resolve_addr", "rdma_resolve_route"];

fn kind_of(call: &str, errno: i32) -> VerbsErrorKind {
    let by_address = BY_ADDRESS.contains(&call);
    match errno {
        libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH
            if by_address =>
        {
            VerbsErrorKind::Unreachable
        }
        libc::ENODEV | libc::ENXIO => VerbsErrorKind::NoDevice,
        libc::EACCES | libc::EPERM => VerbsErrorKind::Permission,
        libc::ENOMEM if call == "ibv_reg_mr" => VerbsErrorKind::LockedMemory,
        libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EAGAIN => {
            VerbsErrorKind::Exhausted
        }
        libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP | libc::ERANGE => VerbsErrorKind::Invalid,
        libc::EADDRINUSE => VerbsErrorKind::AddressInUse,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL => VerbsErrorKind::Unreachable,
        libc::EIO => VerbsErrorKind::DeviceGone,
        _ => VerbsErrorKind::Other,
    }
}

/// A call that finds no device fails with whatever comes; looks why.
pub(crate) fn diagnose(call: &'static str) -> VerbsError {
    let errno = Error::last_os_error().raw_os_error();
    let kind = match Found::on(Path::new("/")).verdict() {
        // All is there, so the number is to be believed.
        VerbsErrorKind::Other => kind_of(call, errno.unwrap_or(0)),
        kind => kind,
    };
    VerbsError { call, kind, errno: errno.filter(|errno| *errno != 0) }
}

/// What RDMA needs of a machine, each as opening it went.
#[derive(Debug)]
struct Found {
    /// The connection manager's file.
    manager: Result<(), ErrorKind>,
    /// The devices' own files, any that is refused.
    verbs: Result<(), ErrorKind>,
    /// Names under `/sys/class/infiniband`.
    devices: usize,
}

impl Found {
    fn on(root: &Path) -> Self {
        let open = |path: &Path| {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            opened.map(drop).map_err(|error| error.kind())
        };
        let list = |path: &str| -> Vec<_> {
            let entries = std::fs::read_dir(root.join(path));
            entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let is_verbs = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("uverbs"))
        };
        let nodes = list("dev/infiniband");
        Self {
            manager: open(&root.join("dev/infiniband/rdma_cm")),
            verbs: nodes.iter().filter(|path| is_verbs(path)).try_for_each(|path| open(path)),
            devices: list("sys/class/infiniband").len(),
        }
    }

    /// What is missing; `Other` if nothing is.
    fn verdict(&self) -> VerbsErrorKind {
        match (self.manager, self.verbs) {
            (Err(ErrorKind::PermissionDenied), _) => VerbsErrorKind::Permission,
            (Err(_), _) => VerbsErrorKind::NoModule,
            _ if self.devices == 0 => VerbsErrorKind::NoDevice,
            (_, Err(ErrorKind::PermissionDenied)) => VerbsErrorKind::Permission,
            (_, Err(_)) => VerbsErrorKind::NoModule,
            _ => VerbsErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_part_is_named() {
        let denied = Err(ErrorKind::PermissionDenied);
        let absent = Err(ErrorKind::NotFound);
        let verdict = |manager, verbs, devices| Found { manager, verbs, devices }.verdict();
        assert_eq!(verdict(absent, Ok(()), 0), VerbsErrorKind::NoModule);
        assert_eq!(verdict(absent, Ok(()), 1), VerbsErrorKind::NoModule);
        assert_eq!(verdict(denied, Ok(()), 1), VerbsErrorKind::Permission);
        assert_eq!(verdict(Ok(()), Ok(()), 0), VerbsErrorKind::NoDevice);
        assert_eq!(verdict(Ok(()), denied, 1), VerbsErrorKind::Permission);
        assert_eq!(verdict(Ok(()), Ok(()), 1), VerbsErrorKind::Other);
    }

    #[test]
    fn a_bare_root_has_no_modules() {
        let found = Found::on(Path::new("/nonexistent"));
        assert_eq!(found.verdict(), VerbsErrorKind::NoModule);
    }

    #[test]
    fn a_number_means_what_its_call_makes_it_mean() {
        let kind = |call, errno| of(call, errno).kind;
        assert_eq!(kind("ibv_reg_mr", libc::ENOMEM), VerbsErrorKind::LockedMemory);
        assert_eq!(kind("rdma_create_qp", libc::ENOMEM), VerbsErrorKind::Exhausted);
        assert_eq!(kind("rdma_bind_addr", libc::ENODEV), VerbsErrorKind::Unreachable);
        assert_eq!(kind("rdma_bind_addr", libc::EADDRINUSE), VerbsErrorKind::AddressInUse);
        assert_eq!(kind("ibv_alloc_pd", libc::ENODEV), VerbsErrorKind::NoDevice);
        let said = of("ibv_reg_mr", libc::ENOMEM).to_string();
        assert!(said.contains("ibv_reg_mr") && said.contains("ulimit -l"), "{said}");
    }
}
