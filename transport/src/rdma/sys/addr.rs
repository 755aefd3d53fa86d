//! Socket addresses as C has them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{AF_INET, AF_INET6, sockaddr_in, sockaddr_in6, sockaddr_storage};

/// What is in a storage, if it is an IP address and a port.
pub(super) fn from_storage(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        AF_INET => {
            // SAFETY: the family says which it is, and a storage is large and aligned enough for
            // any; all its bytes are there.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockAddr;

    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["10.77.0.1:6800", "[fe80::1]:6801", "[::]:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let c = SockAddr::from(address);
            // SAFETY: a storage of zeroes is one of no family, and the address fits into it.
            let storage = unsafe {
                let mut storage: sockaddr_storage = std::mem::zeroed();
                std::ptr::copy_nonoverlapping(
                    c.as_ptr().cast::<u8>(),
                    std::ptr::from_mut(&mut storage).cast::<u8>(),
                    c.len() as usize,
                );
                storage
            };
            assert_eq!(from_storage(&storage), Some(address));
        }
        // SAFETY: as above.
        assert_eq!(from_storage(&unsafe { std::mem::zeroed() }), None);
    }
}
