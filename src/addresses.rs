//! What may stand where addresses are wanted: one or several, as text or checked.

use stellate_transport::{Address, AddressError};

/// One address or several, as `connect`, `bind` and `readdress` take them.
pub trait IntoAddresses {
    /// Checks them.
    ///
    /// # Errors
    /// The first text that is no address.
    fn into_addresses(self) -> Result<Vec<Address>, AddressError>;
}

impl IntoAddresses for &str {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        Ok(vec![self.parse()?])
    }
}

impl IntoAddresses for String {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        self.as_str().into_addresses()
    }
}

impl IntoAddresses for &String {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        self.as_str().into_addresses()
    }
}

impl IntoAddresses for Address {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        Ok(vec![self])
    }
}

impl IntoAddresses for &Address {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        Ok(vec![self.clone()])
    }
}

impl<T: IntoAddresses> IntoAddresses for Vec<T> {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        all(self)
    }
}

impl<T: IntoAddresses, const N: usize> IntoAddresses for [T; N] {
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        all(self)
    }
}

impl<'a, T> IntoAddresses for &'a [T]
where
    &'a T: IntoAddresses,
{
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        all(self)
    }
}

impl<'a, T> IntoAddresses for &'a Vec<T>
where
    &'a T: IntoAddresses,
{
    fn into_addresses(self) -> Result<Vec<Address>, AddressError> {
        all(self)
    }
}

fn all<T: IntoAddresses>(
    several: impl IntoIterator<Item = T>,
) -> Result<Vec<Address>, AddressError> {
    let mut addresses = Vec::new();
    for one in several {
        addresses.extend(one.into_addresses()?);
    }
    Ok(addresses)
}
