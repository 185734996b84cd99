use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Contact, Device, Directory, DirectoryError, GroupSettings, MAX_BLOCKED, MAX_DEVICES, Member,
    Registration, Role, contact, successor,
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

/// Reads person, role, since and `muted_until`
fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let muted: Option<i64> = row.get(3)?;
    Ok(Member::new(text(row, 0)?, text(row, 1)?)
        .with_since(unsigned(row, 2)?)
        .with_muted_until(muted.map(i64::cast_unsigned)))
}

fn member_of(
    tx: &Connection,
    group: &GroupName,
    user: &UserName,
) -> rusqlite::Result<Option<Member>> {
    tx.prepare_cached(
        "SELECT person, role, since, muted_until FROM member WHERE circle = ?1 AND person = ?2",
    )?
    .query_row([group.as_str(), user.as_str()], member)
    .optional()
}

fn members_of(tx: &Connection, group: &GroupName) -> rusqlite::Result<Vec<Member>> {
    tx.prepare_cached(
        "SELECT person, role, since, muted_until FROM member WHERE circle = ?1 ORDER BY place",
    )?
    .query_map([group.as_str()], member)?
    .collect()
}

fn insert_member(
    tx: &Connection,
    group: &GroupName,
    user: &UserName,
    role: Role,
    since: u64,
    now: u64,
) -> rusqlite::Result<bool> {
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO member (circle, person, role, since, joined)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            group.as_str(),
            user.as_str(),
            role.as_str(),
            to_sql(since),
            to_sql(now)
        ])?;
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

    async fn users(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<UserName>, DirectoryError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        let found = self.read(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT name FROM person WHERE name >= ?1 AND name > ?3 ORDER BY name LIMIT ?2",
            )?;
            let names = statement
                .query_map(params![prefix, to_sql(limit as u64), after], |row| {
                    text::<UserName>(row, 0)
                })?;
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
            insert_member(tx, &group, &owner, Role::Owner, 0, now)?;
            for user in &members {
                insert_member(tx, &group, user, Role::Member, 0, now)?;
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

    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError> {
        let (group, user) = (group.clone(), user.clone());
        Ok(self.read(move |tx| member_of(tx, &group, &user)).await?)
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError> {
        let (group, user, now) = (group.clone(), user.clone(), self.now());
        self.change(move |tx| {
            if !group_exists(tx, &group)? {
                return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
            }
            if !user_exists(tx, &user)? {
                return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
            }
            insert_member(tx, &group, &user, role, since, now).map(Ok)
        })
        .await
    }

    async fn mute(
        &self,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<bool, DirectoryError> {
        let (group, user) = (group.clone(), user.clone());
        self.change(move |tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE member SET muted_until = ?3 WHERE circle = ?1 AND person = ?2",
                )?
                .execute(params![group.as_str(), user.as_str(), until.map(to_sql)])?;
            Ok(Ok(changed == 1))
        })
        .await
    }

    async fn settings(&self, group: &GroupName) -> Result<Option<GroupSettings>, DirectoryError> {
        let group = group.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached("SELECT title, open, history FROM circle WHERE name = ?1")?
                .query_row([group.as_str()], |row| {
                    Ok(GroupSettings::default()
                        .with_title(row.get::<_, String>(0)?)
                        .with_open(row.get(1)?)
                        .with_history(text(row, 2)?))
                })
                .optional()
        });
        Ok(found.await?)
    }

    async fn set_settings(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
    ) -> Result<(), DirectoryError> {
        let (group, settings) = (group.clone(), settings.clone());
        self.change(move |tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE circle SET title = ?2, open = ?3, history = ?4 WHERE name = ?1",
                )?
                .execute(params![
                    group.as_str(),
                    settings.title,
                    settings.open,
                    settings.history.as_str()
                ])?;
            if changed == 0 {
                return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let (user, other) = (user.clone(), other.clone());
        self.change(move |tx| {
            for person in [&user, &other] {
                if !user_exists(tx, person)? {
                    return Ok(Err(DirectoryError::NoSuchUser(person.clone())));
                }
            }
            let blocked = tx
                .prepare_cached("SELECT count(*) FROM block WHERE person = ?1 AND blocked <> ?2")?
                .query_row([user.as_str(), other.as_str()], |row| unsigned(row, 0))?;
            if blocked >= MAX_BLOCKED as u64 {
                return Ok(Err(DirectoryError::TooManyBlocked));
            }
            let added = tx
                .prepare_cached("INSERT OR IGNORE INTO block (person, blocked) VALUES (?1, ?2)")?
                .execute([user.as_str(), other.as_str()])?;
            Ok(Ok(added == 1))
        })
        .await
    }

    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let (user, other) = (user.clone(), other.clone());
        self.change(move |tx| {
            let removed = tx
                .prepare_cached("DELETE FROM block WHERE person = ?1 AND blocked = ?2")?
                .execute([user.as_str(), other.as_str()])?;
            Ok(Ok(removed == 1))
        })
        .await
    }

    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached("SELECT blocked FROM block WHERE person = ?1 ORDER BY blocked")?
                .query_map([user.as_str()], |row| text(row, 0))?
                .collect()
        });
        Ok(found.await?)
    }

    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached("SELECT person FROM block WHERE blocked = ?1 ORDER BY person")?
                .query_map([user.as_str()], |row| text(row, 0))?
                .collect()
        });
        Ok(found.await?)
    }

    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError> {
        let people = (user.clone(), other.clone());
        let [knows_user, knows_other, blocked, blocks] = self
            .read(move |tx| {
                tx.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM person WHERE name = ?1),
                        EXISTS (SELECT 1 FROM person WHERE name = ?2),
                        EXISTS (SELECT 1 FROM block WHERE person = ?2 AND blocked = ?1),
                        EXISTS (SELECT 1 FROM block WHERE person = ?1 AND blocked = ?2)",
                )?
                .query_row([people.0.as_str(), people.1.as_str()], |row| {
                    Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, bool>(3)?])
                })
            })
            .await?;
        contact((user, knows_user), (other, knows_other), blocked, blocks)
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
            if member_of(tx, &group, &user)?.is_none() {
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

    async fn label_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<bool, DirectoryError> {
        let (user, device, label) = (user.clone(), device.clone(), label.to_owned());
        self.change(move |tx| {
            let changed = tx
                .prepare_cached("UPDATE device SET label = ?3 WHERE person = ?1 AND name = ?2")?
                .execute([user.as_str(), device.as_str(), label.as_str()])?;
            Ok(Ok(changed == 1))
        })
        .await
    }

    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError> {
        let user = user.clone();
        let found = self.read(move |tx| {
            tx.prepare_cached(
                "SELECT name, registered, seeded, label FROM device WHERE person = ?1 ORDER BY place",
            )?
            .query_map([user.as_str()], |row| {
                Ok(Device::new(text(row, 0)?, unsigned(row, 1)?, row.get(2)?)
                    .with_label(row.get::<_, String>(3)?))
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
