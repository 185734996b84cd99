use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Device, Directory, DirectoryError, MAX_DEVICES, Member, Registration, Role, successor,
};
use crate::auth::PasswordHash;
use crate::names::{DeviceName, GroupName, UserName};
use crate::store::SqliteStore;
use crate::store::sqlite::value::{text, to_sql, unsigned};

/// What a write of names holds, in octets
const SMALL: usize = 512;

/// What a transaction gives: the outer error undoes it, the inner one is an answer
type Answer<T> = rusqlite::Result<Result<T, DirectoryError>>;

impl SqliteStore {
    async fn change<T, F>(&self, change: F) -> Result<T, DirectoryError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Answer<T> + Send + 'static,
    {
        self.write(SMALL, change).await?
    }
}

fn user_exists(tx: &Connection, user: &UserName) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM person WHERE name = ?1")?.exists([user.as_str()])
}

fn group_exists(tx: &Connection, group: &GroupName) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM circle WHERE name = ?1")?.exists([group.as_str()])
}

fn role_of(tx: &Connection, group: &GroupName, user: &UserName) -> rusqlite::Result<Option<Role>> {
    tx.prepare_cached("SELECT role FROM member WHERE circle = ?1 AND person = ?2")?
        .query_row([group.as_str(), user.as_str()], |row| text(row, 0))
        .optional()
}

fn members_of(tx: &Connection, group: &GroupName) -> rusqlite::Result<Vec<Member>> {
    tx.prepare_cached("SELECT person, role FROM member WHERE circle = ?1 ORDER BY place")?
        .query_map([group.as_str()], |row| Ok(Member::new(text(row, 0)?, text(row, 1)?)))?
        .collect()
}

fn insert_member(
    tx: &Connection,
    group: &GroupName,
    user: &UserName,
    role: Role,
    now: u64,
) -> rusqlite::Result<bool> {
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO member (circle, person, role, joined) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![group.as_str(), user.as_str(), role.as_str(), to_sql(now)])?;
    Ok(added == 1)
}

fn update_role(
    tx: &Connection,
    group: &GroupName,
    user: &UserName,
    role: Role,
) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE member SET role = ?3 WHERE circle = ?1 AND person = ?2")?
        .execute([group.as_str(), user.as_str(), role.as_str()])?;
    Ok(())
}

#[async_trait]
impl Directory for SqliteStore {
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError> {
        let (user, password, now) = (user.clone(), password.cloned(), self.now());
        self.change(move |tx| {
            let made = tx
                .prepare_cached(
                    "INSERT OR IGNORE INTO person (name, password, created) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![
                    user.as_str(),
                    password.as_ref().map(PasswordHash::as_str),
                    to_sql(now)
                ])?;
            if made == 0 {
                return Ok(Err(DirectoryError::UserExists(user.clone())));
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        let (user, password) = (user.clone(), password.clone());
        self.change(move |tx| {
            let changed = tx
                .prepare_cached("UPDATE person SET password = ?2 WHERE name = ?1")?
                .execute([user.as_str(), password.as_str()])?;
            if changed == 0 {
                return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError> {
        let user = user.clone();
        Ok(self.read(move |tx| user_exists(tx, &user)).await?)
    }

    async fn password_hash(&self, user: &UserName) -> Result<Option<PasswordHash>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached("SELECT password FROM person WHERE name = ?1")?
                .query_row([user.as_str()], |row| row.get::<_, Option<String>>(0))
                .optional()
        });
        Ok(found.await?.flatten().map(PasswordHash::from_stored))
    }

    async fn users(&self, prefix: &str, limit: usize) -> Result<Vec<UserName>, DirectoryError> {
        let prefix = prefix.to_owned();
        let found = self.read(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT name FROM person WHERE name >= ?1 ORDER BY name LIMIT ?2",
            )?;
            let names = statement
                .query_map(params![prefix, to_sql(limit as u64)], |row| text::<UserName>(row, 0))?;
            // Names are sorted by their octets, so those with the prefix come first.
            names
                .take_while(|name| {
                    name.as_ref().map_or(true, |name| name.as_str().starts_with(&prefix))
                })
                .collect()
        });
        Ok(found.await?)
    }

    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError> {
        let (group, owner, members) = (group.clone(), owner.clone(), members.to_vec());
        let now = self.now();
        self.change(move |tx| {
            if group_exists(tx, &group)? {
                return Ok(Err(DirectoryError::GroupExists(group.clone())));
            }
            for user in std::iter::once(&owner).chain(&members) {
                if !user_exists(tx, user)? {
                    return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
                }
            }
            tx.prepare_cached("INSERT INTO circle (name, created) VALUES (?1, ?2)")?
                .execute(params![group.as_str(), to_sql(now)])?;
            insert_member(tx, &group, &owner, Role::Owner, now)?;
            for user in &members {
                insert_member(tx, &group, user, Role::Member, now)?;
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError> {
        let group = group.clone();
        let found = self.read(move |tx| {
            if group_exists(tx, &group)? { members_of(tx, &group).map(Some) } else { Ok(None) }
        });
        Ok(found.await?)
    }

    async fn role(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Role>, DirectoryError> {
        let (group, user) = (group.clone(), user.clone());
        Ok(self.read(move |tx| role_of(tx, &group, &user)).await?)
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError> {
        let (group, user, now) = (group.clone(), user.clone(), self.now());
        self.change(move |tx| {
            if !group_exists(tx, &group)? {
                return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
            }
            if !user_exists(tx, &user)? {
                return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
            }
            insert_member(tx, &group, &user, role, now).map(Ok)
        })
        .await
    }

    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError> {
        let (group, user) = (group.clone(), user.clone());
        self.change(move |tx| {
            if !group_exists(tx, &group)? {
                return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
            }
            let removed = tx
                .prepare_cached("DELETE FROM member WHERE circle = ?1 AND person = ?2")?
                .execute([group.as_str(), user.as_str()])?;
            if removed == 0 {
                return Ok(Ok(false));
            }
            if let Some(heir) = successor(&members_of(tx, &group)?) {
                update_role(tx, &group, &heir, Role::Owner)?;
            }
            Ok(Ok(true))
        })
        .await
    }

    async fn set_role(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError> {
        let (group, user) = (group.clone(), user.clone());
        self.change(move |tx| {
            if !group_exists(tx, &group)? {
                return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
            }
            if role_of(tx, &group, &user)?.is_none() {
                return Ok(Ok(false));
            }
            let other_owner = tx
                .prepare_cached(
                    "SELECT 1 FROM member WHERE circle = ?1 AND person <> ?2 AND role = ?3",
                )?
                .exists([group.as_str(), user.as_str(), Role::Owner.as_str()])?;
            if role != Role::Owner && !other_owner {
                return Ok(Err(DirectoryError::LastOwner(group.clone())));
            }
            update_role(tx, &group, &user, role)?;
            Ok(Ok(true))
        })
        .await
    }

    async fn groups_of(&self, user: &UserName) -> Result<Vec<GroupName>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached("SELECT circle FROM member WHERE person = ?1 ORDER BY circle")?
                .query_map([user.as_str()], |row| text(row, 0))?
                .collect()
        });
        Ok(found.await?)
    }

    async fn register_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Registration, DirectoryError> {
        let (user, device, now) = (user.clone(), device.clone(), self.now());
        self.change(move |tx| {
            let seeded = tx
                .prepare_cached("SELECT seeded FROM device WHERE person = ?1 AND name = ?2")?
                .query_row([user.as_str(), device.as_str()], |row| row.get(0))
                .optional()?;
            if let Some(seeded) = seeded {
                return Ok(Ok(Registration::new(false, seeded)));
            }
            if !user_exists(tx, &user)? {
                return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
            }
            let devices = tx
                .prepare_cached("SELECT count(*) FROM device WHERE person = ?1")?
                .query_row([user.as_str()], |row| unsigned(row, 0))?;
            if devices >= MAX_DEVICES as u64 {
                return Ok(Err(DirectoryError::TooManyDevices));
            }
            tx.prepare_cached(
                "INSERT INTO device (person, name, registered, seeded) VALUES (?1, ?2, ?3, 0)",
            )?
            .execute(params![user.as_str(), device.as_str(), to_sql(now)])?;
            Ok(Ok(Registration::new(true, false)))
        })
        .await
    }

    async fn mark_seeded(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), DirectoryError> {
        let (user, device) = (user.clone(), device.clone());
        self.change(move |tx| {
            let known = tx
                .prepare_cached("UPDATE device SET seeded = 1 WHERE person = ?1 AND name = ?2")?
                .execute([user.as_str(), device.as_str()])?;
            if known == 0 {
                return Ok(Err(DirectoryError::NoSuchDevice(device.clone())));
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<bool, DirectoryError> {
        let (user, device) = (user.clone(), device.clone());
        self.change(move |tx| {
            let removed = tx
                .prepare_cached("DELETE FROM device WHERE person = ?1 AND name = ?2")?
                .execute([user.as_str(), device.as_str()])?;
            Ok(Ok(removed == 1))
        })
        .await
    }

    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached(
                "SELECT name, registered, seeded FROM device WHERE person = ?1 ORDER BY place",
            )?
            .query_map([user.as_str()], |row| {
                Ok(Device::new(text(row, 0)?, unsigned(row, 1)?, row.get(2)?))
            })?
            .collect()
        });
        Ok(found.await?)
    }

    async fn share_group(&self, one: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let (one, other) = (one.clone(), other.clone());
        let found = self.read(move |tx| {
            tx.prepare_cached(
                "SELECT 1 FROM member a JOIN member b ON b.circle = a.circle AND b.person = ?2
                 WHERE a.person = ?1",
            )?
            .exists([one.as_str(), other.as_str()])
        });
        Ok(found.await?)
    }
}
