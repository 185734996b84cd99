use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{
    Contact, Device, Directory, DirectoryError, GroupSettings, MAX_BLOCKED, MAX_DEVICES, Member,
    Registration, Role, contact, successor,
};
use crate::auth::PasswordHash;
use crate::names::{DeviceName, GroupName, UserName};
use crate::store::postgres::value::{text, to_sql, unsigned};
use crate::store::postgres::{Failure, Work};
use crate::store::{PostgresStore, StoreError};

/// What a transaction gives: the outer error undoes it, the inner one is an answer
type Answer<'a, T> = Work<'a, Result<T, DirectoryError>>;

impl PostgresStore {
    async fn change<A: Sync, T>(
        &self,
        about: &A,
        work: for<'a> fn(&'a Transaction<'_>, &'a A) -> Answer<'a, T>,
    ) -> Result<T, DirectoryError> {
        self.transact(about, work).await?
    }
}

impl From<Failure> for DirectoryError {
    fn from(failure: Failure) -> Self {
        Self::Store(StoreError::from(failure))
    }
}

impl From<tokio_postgres::Error> for DirectoryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

async fn exists(client: &impl GenericClient, sql: &str, name: &str) -> Result<bool, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_opt(&statement, &[&name]).await?.is_some())
}

async fn user_exists(client: &impl GenericClient, user: &UserName) -> Result<bool, Failure> {
    exists(client, "SELECT 1 FROM person WHERE name = $1", user.as_str()).await
}

async fn group_exists(client: &impl GenericClient, group: &GroupName) -> Result<bool, Failure> {
    exists(client, "SELECT 1 FROM circle WHERE name = $1", group.as_str()).await
}

/// Whether there is such a group; changes of its members by others wait until the end of the transaction
async fn lock_group(transaction: &Transaction<'_>, group: &GroupName) -> Result<bool, Failure> {
    exists(transaction, "SELECT 1 FROM circle WHERE name = $1 FOR UPDATE", group.as_str()).await
}

/// Reads person, role, since and `muted_until`
fn member(row: &Row) -> Result<Member, Failure> {
    let muted: Option<i64> = row.try_get(3)?;
    Ok(Member::new(text(row, 0)?, text(row, 1)?)
        .with_since(unsigned(row, 2)?)
        .with_muted_until(muted.map(i64::cast_unsigned)))
}

async fn members_of(
    client: &impl GenericClient,
    group: &GroupName,
) -> Result<Vec<Member>, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT person, role, since, muted_until FROM member WHERE circle = $1 ORDER BY place",
        )
        .await?;
    let rows = client.query(&statement, &[&group.as_str()]).await?;
    rows.iter().map(member).collect()
}

async fn insert_member(
    transaction: &Transaction<'_>,
    group: &GroupName,
    user: &UserName,
    role: Role,
    since: u64,
    now: u64,
) -> Result<bool, Failure> {
    let statement = transaction
        .prepare_cached(
            "INSERT INTO member (circle, person, role, since, joined) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let (since, now) = (to_sql(since), to_sql(now));
    let added = transaction
        .execute(&statement, &[&group.as_str(), &user.as_str(), &role.as_str(), &since, &now])
        .await?;
    Ok(added == 1)
}

async fn update_role(
    transaction: &Transaction<'_>,
    group: &GroupName,
    user: &UserName,
    role: Role,
) -> Result<(), Failure> {
    let statement = transaction
        .prepare_cached("UPDATE member SET role = $3 WHERE circle = $1 AND person = $2")
        .await?;
    transaction.execute(&statement, &[&group.as_str(), &user.as_str(), &role.as_str()]).await?;
    Ok(())
}

async fn create_group(
    transaction: &Transaction<'_>,
    (group, owner, members, now): &(GroupName, UserName, Vec<UserName>, u64),
) -> Result<Result<(), DirectoryError>, Failure> {
    let made = transaction
        .prepare_cached("INSERT INTO circle (name, created) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .await?;
    if transaction.execute(&made, &[&group.as_str(), &to_sql(*now)]).await? == 0 {
        return Ok(Err(DirectoryError::GroupExists(group.clone())));
    }
    for user in std::iter::once(owner).chain(members) {
        if !user_exists(transaction, user).await? {
            let undo = transaction.prepare_cached("DELETE FROM circle WHERE name = $1").await?;
            transaction.execute(&undo, &[&group.as_str()]).await?;
            return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
        }
    }
    insert_member(transaction, group, owner, Role::Owner, 0, *now).await?;
    for user in members {
        insert_member(transaction, group, user, Role::Member, 0, *now).await?;
    }
    Ok(Ok(()))
}

async fn remove_member(
    transaction: &Transaction<'_>,
    (group, user): &(GroupName, UserName),
) -> Result<Result<bool, DirectoryError>, Failure> {
    if !lock_group(transaction, group).await? {
        return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
    }
    let remove =
        transaction.prepare_cached("DELETE FROM member WHERE circle = $1 AND person = $2").await?;
    if transaction.execute(&remove, &[&group.as_str(), &user.as_str()]).await? == 0 {
        return Ok(Ok(false));
    }
    if let Some(heir) = successor(&members_of(transaction, group).await?) {
        update_role(transaction, group, &heir, Role::Owner).await?;
    }
    Ok(Ok(true))
}

async fn set_role(
    transaction: &Transaction<'_>,
    (group, user, role): &(GroupName, UserName, Role),
) -> Result<Result<bool, DirectoryError>, Failure> {
    if !lock_group(transaction, group).await? {
        return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
    }
    let members = members_of(transaction, group).await?;
    if !members.iter().any(|member| member.user == *user) {
        return Ok(Ok(false));
    }
    let other_owner =
        members.iter().any(|member| member.user != *user && member.role == Role::Owner);
    if *role != Role::Owner && !other_owner {
        return Ok(Err(DirectoryError::LastOwner(group.clone())));
    }
    update_role(transaction, group, user, *role).await?;
    Ok(Ok(true))
}

async fn block(
    transaction: &Transaction<'_>,
    (user, other): &(UserName, UserName),
) -> Result<Result<bool, DirectoryError>, Failure> {
    // Two blocks of one user at the same time take turns, so that their number is right.
    let lock = "SELECT 1 FROM person WHERE name = $1 FOR UPDATE";
    if !exists(transaction, lock, user.as_str()).await? {
        return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
    }
    if !user_exists(transaction, other).await? {
        return Ok(Err(DirectoryError::NoSuchUser(other.clone())));
    }
    let count = transaction
        .prepare_cached("SELECT count(*) FROM block WHERE person = $1 AND blocked <> $2")
        .await?;
    let row = transaction.query_one(&count, &[&user.as_str(), &other.as_str()]).await?;
    if unsigned(&row, 0)? >= MAX_BLOCKED as u64 {
        return Ok(Err(DirectoryError::TooManyBlocked));
    }
    let insert = transaction
        .prepare_cached(
            "INSERT INTO block (person, blocked) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .await?;
    Ok(Ok(transaction.execute(&insert, &[&user.as_str(), &other.as_str()]).await? == 1))
}

async fn register_device(
    transaction: &Transaction<'_>,
    (user, device, now): &(UserName, DeviceName, u64),
) -> Result<Result<Registration, DirectoryError>, Failure> {
    // Two devices of one user at the same time take turns, so that their number is right.
    let lock = "SELECT 1 FROM person WHERE name = $1 FOR UPDATE";
    if !exists(transaction, lock, user.as_str()).await? {
        return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
    }
    let find = transaction
        .prepare_cached("SELECT seeded FROM device WHERE person = $1 AND name = $2")
        .await?;
    if let Some(row) = transaction.query_opt(&find, &[&user.as_str(), &device.as_str()]).await? {
        return Ok(Ok(Registration::new(false, row.try_get(0)?)));
    }
    let count = transaction.prepare_cached("SELECT count(*) FROM device WHERE person = $1").await?;
    let row = transaction.query_one(&count, &[&user.as_str()]).await?;
    if unsigned(&row, 0)? >= MAX_DEVICES as u64 {
        return Ok(Err(DirectoryError::TooManyDevices));
    }
    let insert = transaction
        .prepare_cached(
            "INSERT INTO device (person, name, registered, seeded) VALUES ($1, $2, $3, false)",
        )
        .await?;
    transaction.execute(&insert, &[&user.as_str(), &device.as_str(), &to_sql(*now)]).await?;
    Ok(Ok(Registration::new(true, false)))
}

#[async_trait]
impl Directory for PostgresStore {
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError> {
        let client = self.client().await?;
        let insert = client
            .prepare_cached(
                "INSERT INTO person (name, password, created) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING",
            )
            .await?;
        let password = password.map(PasswordHash::as_str);
        let now = to_sql(self.now());
        match client.execute(&insert, &[&user.as_str(), &password, &now]).await? {
            0 => Err(DirectoryError::UserExists(user.clone())),
            _ => Ok(()),
        }
    }

    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        let client = self.client().await?;
        let update =
            client.prepare_cached("UPDATE person SET password = $2 WHERE name = $1").await?;
        match client.execute(&update, &[&user.as_str(), &password.as_str()]).await? {
            0 => Err(DirectoryError::NoSuchUser(user.clone())),
            _ => Ok(()),
        }
    }

    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError> {
        Ok(user_exists(&self.client().await?, user).await?)
    }

    async fn password_hash(&self, user: &UserName) -> Result<Option<PasswordHash>, DirectoryError> {
        let client = self.client().await?;
        let find = client.prepare_cached("SELECT password FROM person WHERE name = $1").await?;
        let Some(row) = client.query_opt(&find, &[&user.as_str()]).await? else {
            return Ok(None);
        };
        Ok(row.try_get::<_, Option<String>>(0)?.map(PasswordHash::from_stored))
    }

    async fn users(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<UserName>, DirectoryError> {
        // No name holds a NUL, which no text of PostgreSQL may hold.
        if prefix.contains('\0') || after.contains('\0') {
            return Ok(Vec::new());
        }
        let client = self.client().await?;
        let find = client
            .prepare_cached(
                "SELECT name FROM person WHERE name >= $1 AND name > $3 AND starts_with(name, $1)
                 ORDER BY name LIMIT $2",
            )
            .await?;
        let rows = client.query(&find, &[&prefix, &to_sql(limit as u64), &after]).await?;
        Ok(rows.iter().map(|row| text(row, 0)).collect::<Result<_, Failure>>()?)
    }

    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError> {
        let about = (group.clone(), owner.clone(), members.to_vec(), self.now());
        self.change(&about, |transaction, about| Box::pin(create_group(transaction, about))).await
    }

    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError> {
        let client = self.client().await?;
        let members = members_of(&client, group).await?;
        if members.is_empty() && !group_exists(&client, group).await? {
            return Ok(None);
        }
        Ok(Some(members))
    }

    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached(
                "SELECT person, role, since, muted_until FROM member
                 WHERE circle = $1 AND person = $2",
            )
            .await?;
        let row = client.query_opt(&find, &[&group.as_str(), &user.as_str()]).await?;
        Ok(row.map(|row| member(&row)).transpose()?)
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError> {
        let about = (group.clone(), user.clone(), role, since, self.now());
        self.change(&about, |transaction, (group, user, role, since, now)| {
            Box::pin(async move {
                if !lock_group(transaction, group).await? {
                    return Ok(Err(DirectoryError::NoSuchGroup(group.clone())));
                }
                if !user_exists(transaction, user).await? {
                    return Ok(Err(DirectoryError::NoSuchUser(user.clone())));
                }
                insert_member(transaction, group, user, *role, *since, *now).await.map(Ok)
            })
        })
        .await
    }

    async fn mute(
        &self,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<bool, DirectoryError> {
        let client = self.client().await?;
        let update = client
            .prepare_cached("UPDATE member SET muted_until = $3 WHERE circle = $1 AND person = $2")
            .await?;
        let until = until.map(to_sql);
        let changed = client.execute(&update, &[&group.as_str(), &user.as_str(), &until]).await?;
        Ok(changed == 1)
    }

    async fn settings(&self, group: &GroupName) -> Result<Option<GroupSettings>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached("SELECT title, open, history FROM circle WHERE name = $1")
            .await?;
        let Some(row) = client.query_opt(&find, &[&group.as_str()]).await? else {
            return Ok(None);
        };
        let settings = GroupSettings::default().with_title(row.try_get::<_, String>(0)?);
        Ok(Some(settings.with_open(row.try_get(1)?).with_history(text(&row, 2)?)))
    }

    async fn set_settings(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
    ) -> Result<(), DirectoryError> {
        let client = self.client().await?;
        let update = client
            .prepare_cached("UPDATE circle SET title = $2, open = $3, history = $4 WHERE name = $1")
            .await?;
        let history = settings.history.as_str();
        let about: [&(dyn ToSql + Sync); 4] =
            [&group.as_str(), &settings.title, &settings.open, &history];
        match client.execute(&update, &about).await? {
            0 => Err(DirectoryError::NoSuchGroup(group.clone())),
            _ => Ok(()),
        }
    }

    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let about = (user.clone(), other.clone());
        self.change(&about, |transaction, about| Box::pin(block(transaction, about))).await
    }

    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let client = self.client().await?;
        let delete =
            client.prepare_cached("DELETE FROM block WHERE person = $1 AND blocked = $2").await?;
        Ok(client.execute(&delete, &[&user.as_str(), &other.as_str()]).await? == 1)
    }

    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached("SELECT blocked FROM block WHERE person = $1 ORDER BY blocked")
            .await?;
        let rows = client.query(&find, &[&user.as_str()]).await?;
        Ok(rows.iter().map(|row| text(row, 0)).collect::<Result<_, Failure>>()?)
    }

    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached("SELECT person FROM block WHERE blocked = $1 ORDER BY person")
            .await?;
        let rows = client.query(&find, &[&user.as_str()]).await?;
        Ok(rows.iter().map(|row| text(row, 0)).collect::<Result<_, Failure>>()?)
    }

    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM person WHERE name = $1),
                    EXISTS (SELECT 1 FROM person WHERE name = $2),
                    EXISTS (SELECT 1 FROM block WHERE person = $2 AND blocked = $1),
                    EXISTS (SELECT 1 FROM block WHERE person = $1 AND blocked = $2)",
            )
            .await?;
        let row = client.query_one(&find, &[&user.as_str(), &other.as_str()]).await?;
        let (user, other) = ((user, row.try_get(0)?), (other, row.try_get(1)?));
        contact(user, other, row.try_get(2)?, row.try_get(3)?)
    }

    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError> {
        let about = (group.clone(), user.clone());
        self.change(&about, |transaction, about| Box::pin(remove_member(transaction, about))).await
    }

    async fn set_role(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError> {
        let about = (group.clone(), user.clone(), role);
        self.change(&about, |transaction, about| Box::pin(set_role(transaction, about))).await
    }

    async fn groups_of(&self, user: &UserName) -> Result<Vec<GroupName>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached("SELECT circle FROM member WHERE person = $1 ORDER BY circle")
            .await?;
        let rows = client.query(&find, &[&user.as_str()]).await?;
        Ok(rows.iter().map(|row| text(row, 0)).collect::<Result<_, Failure>>()?)
    }

    async fn register_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Registration, DirectoryError> {
        // Most devices are known: no lock for them.
        let client = self.client().await?;
        let find = client
            .prepare_cached("SELECT seeded FROM device WHERE person = $1 AND name = $2")
            .await?;
        let known = client.query_opt(&find, &[&user.as_str(), &device.as_str()]).await?;
        drop(client);
        if let Some(row) = known {
            return Ok(Registration::new(false, row.try_get(0)?));
        }
        let about = (user.clone(), device.clone(), self.now());
        self.change(&about, |transaction, about| Box::pin(register_device(transaction, about)))
            .await
    }

    async fn mark_seeded(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), DirectoryError> {
        let client = self.client().await?;
        let update = client
            .prepare_cached("UPDATE device SET seeded = true WHERE person = $1 AND name = $2")
            .await?;
        match client.execute(&update, &[&user.as_str(), &device.as_str()]).await? {
            0 => Err(DirectoryError::NoSuchDevice(device.clone())),
            _ => Ok(()),
        }
    }

    async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<bool, DirectoryError> {
        let client = self.client().await?;
        let remove =
            client.prepare_cached("DELETE FROM device WHERE person = $1 AND name = $2").await?;
        Ok(client.execute(&remove, &[&user.as_str(), &device.as_str()]).await? == 1)
    }

    async fn label_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<bool, DirectoryError> {
        let client = self.client().await?;
        let update = client
            .prepare_cached("UPDATE device SET label = $3 WHERE person = $1 AND name = $2")
            .await?;
        let changed = client.execute(&update, &[&user.as_str(), &device.as_str(), &label]).await?;
        Ok(changed == 1)
    }

    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached(
                "SELECT name, registered, seeded, label FROM device WHERE person = $1 ORDER BY place",
            )
            .await?;
        let rows = client.query(&find, &[&user.as_str()]).await?;
        let device = |row: &Row| {
            let device = Device::new(text(row, 0)?, unsigned(row, 1)?, row.try_get(2)?);
            Ok(device.with_label(row.try_get::<_, String>(3)?))
        };
        Ok(rows.iter().map(device).collect::<Result<_, Failure>>()?)
    }

    async fn share_group(&self, one: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let client = self.client().await?;
        let find = client
            .prepare_cached(
                "SELECT 1 FROM member a JOIN member b ON b.circle = a.circle AND b.person = $2
                 WHERE a.person = $1 LIMIT 1",
            )
            .await?;
        Ok(client.query_opt(&find, &[&one.as_str(), &other.as_str()]).await?.is_some())
    }
}
