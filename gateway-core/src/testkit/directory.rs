//! What is promised of a directory, one function for each promise.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Check, Harness, START, clock, conversation, group, same, table, text, user};
use crate::auth::PasswordHash;
use crate::directory::{
    Contact, Directory, DirectoryError, GroupSettings, HistoryFrom, MAX_DEVICES, Member,
    Registration, Role,
};
use crate::names::{DeviceName, UserName};

type Outcome = Result<(), String>;
type Any<'a> = &'a mut dyn Harness<dyn Directory>;
type People = Arc<dyn Directory>;

#[doc(hidden)]
#[macro_export]
macro_rules! __directory_checks {
    ([$($callback:tt)+] [$($arguments:tt)*]) => {
        $($callback)+! {
            [$($arguments)*]
            a_user_is_made_once
            concurrent_sign_ups_make_one_user
            passwords_are_kept_as_they_were_given
            users_are_found_by_the_start_of_their_names
            a_group_is_made_once_and_with_all_or_nobody
            members_come_and_go
            a_group_with_members_has_an_owner
            concurrent_leavers_do_not_leave_a_group_without_owner
            the_name_of_an_empty_group_stays_taken
            groups_of_a_user_are_those_he_is_in
            participants_are_everyone_who_gets_a_message
            a_device_is_new_once
            devices_are_bounded_in_number
            a_member_is_kept_as_he_joined
            a_group_is_run_as_it_was_set
            a_block_is_of_one_by_another
            who_is_known_survives_a_restart
        }
    };
}

/// The suite for directories
#[must_use]
pub fn directory_checks() -> Vec<Check<dyn Directory>> {
    __directory_checks!([table] [])
}

fn device(name: &str) -> Result<DeviceName, String> {
    DeviceName::new(name).map_err(text)
}

fn names<'a>(users: impl IntoIterator<Item = &'a UserName>) -> Vec<&'a str> {
    users.into_iter().map(UserName::as_str).collect()
}

/// A directory with users of these names
async fn with(harness: Any<'_>, users: &[&str]) -> Result<People, String> {
    let people = harness.create(clock()).await;
    for name in users {
        people.create_user(&user(name)?, None).await.map_err(text)?;
    }
    Ok(people)
}

/// The members of a group as `name:role`
async fn members(people: &People, of: &str) -> Result<Vec<String>, String> {
    let members = people.members(&group(of)?).await.map_err(text)?;
    let members = members.ok_or_else(|| format!("there is no group {of}"))?;
    Ok(members.iter().map(|member| format!("{}:{}", member.user, member.role.as_str())).collect())
}

async fn a_user_is_made_once(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice"]).await?;
    let (alice, other) = (user("alice")?, user("Alice")?);
    let again = people.create_user(&alice, Some(&PasswordHash::from_stored("x".to_owned()))).await;
    same!(again, Err(DirectoryError::UserExists(alice.clone())), "a second alice");
    same!(people.password_hash(&alice).await, Ok(None), "the first alice's password");
    same!(people.user_exists(&alice).await, Ok(true), "whether alice exists");
    same!(people.user_exists(&other).await, Ok(false), "whether Alice exists");
    same!(people.create_user(&other, None).await, Ok(()), "another name");
    Ok(())
}

async fn concurrent_sign_ups_make_one_user(harness: Any<'_>) -> Outcome {
    let people = with(harness, &[]).await?;
    let signing_up = (0..20).map(|number: u32| {
        let people = Arc::clone(&people);
        tokio::spawn(async move {
            let password = PasswordHash::from_stored(number.to_string());
            let made = people.create_user(&user("alice")?, Some(&password)).await;
            Ok::<_, String>(made.is_ok().then_some(password))
        })
    });
    let mut made = Vec::new();
    for task in join_all(signing_up).await {
        made.extend(task.map_err(text)??);
    }
    same!(made.len(), 1, "how many made alice");
    let kept = people.password_hash(&user("alice")?).await.map_err(text)?;
    same!(kept, made.pop(), "whether the one who made her has the password");
    Ok(())
}

async fn passwords_are_kept_as_they_were_given(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["bob"]).await?;
    let (alice, bob) = (user("alice")?, user("bob")?);
    let (one, two) =
        (PasswordHash::from_stored("one".into()), PasswordHash::from_stored("two".into()));
    same!(people.password_hash(&alice).await, Ok(None), "the password of nobody");
    let nobody = people.set_password(&alice, &one).await;
    same!(nobody, Err(DirectoryError::NoSuchUser(alice.clone())), "a password for nobody");
    people.create_user(&alice, Some(&one)).await.map_err(text)?;
    same!(people.password_hash(&alice).await, Ok(Some(one)), "the password");
    people.set_password(&alice, &two).await.map_err(text)?;
    same!(people.password_hash(&alice).await, Ok(Some(two)), "the new password");
    same!(people.password_hash(&bob).await, Ok(None), "bob's password");
    Ok(())
}

async fn users_are_found_by_the_start_of_their_names(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["bob", "a_b", "axb", "a", "Al", "ä", "al", "alice"]).await?;
    for (prefix, limit, wanted) in [
        ("", 100, &["Al", "a", "a_b", "al", "alice", "axb", "bob", "ä"][..]),
        ("a", 100, &["a", "a_b", "al", "alice", "axb"]),
        ("a", 2, &["a", "a_b"]),
        ("a_", 100, &["a_b"]),
        ("b", 100, &["bob"]),
        ("A", 100, &["Al"]),
        ("alice", 100, &["alice"]),
        ("alicex", 100, &[]),
        ("%", 100, &[]),
        ("ä", 100, &["ä"]),
        ("\u{10ffff}", 100, &[]),
        ("a", 0, &[]),
    ] {
        let found = people.users(prefix, "", limit).await.map_err(text)?;
        same!(names(&found), wanted, "at most {limit} users with {prefix:?}");
    }
    for (prefix, after, limit, wanted) in [
        ("", "Al", 2, &["a", "a_b"][..]),
        ("", "a_b", 2, &["al", "alice"]),
        ("", "ä", 2, &[]),
        ("a", "al", 100, &["alice", "axb"]),
        ("a", "ab", 1, &["al"]),
        ("a", "A", 1, &["a"]),
        ("a", "b", 100, &[]),
    ] {
        let found = people.users(prefix, after, limit).await.map_err(text)?;
        same!(names(&found), wanted, "at most {limit} users with {prefix:?} behind {after:?}");
    }
    Ok(())
}

async fn a_group_is_made_once_and_with_all_or_nobody(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let ops = group("ops")?;
    let (alice, bob, nobody) = (user("alice")?, user("bob")?, user("nobody")?);
    for (owner, others) in
        [(&alice, [bob.clone(), nobody.clone()]), (&nobody, [alice.clone(), bob.clone()])]
    {
        let made = people.create_group(&ops, owner, &others).await;
        same!(made, Err(DirectoryError::NoSuchUser(nobody.clone())), "a group with nobody in it");
        same!(people.members(&ops).await, Ok(None), "the group that was not made");
        same!(people.groups_of(&alice).await, Ok(Vec::new()), "alice's groups");
    }
    let others = [bob.clone(), alice.clone(), bob.clone()];
    people.create_group(&ops, &alice, &others).await.map_err(text)?;
    same!(members(&people, "ops").await?, ["alice:owner", "bob:member"], "members");
    let again = people.create_group(&ops, &user("carol")?, &[]).await;
    same!(again, Err(DirectoryError::GroupExists(ops)), "a second group of the same name");
    same!(members(&people, "ops").await?, ["alice:owner", "bob:member"], "members afterwards");
    Ok(())
}

async fn members_come_and_go(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let (ops, none) = (group("ops")?, group("none")?);
    let (alice, bob, carol) = (user("alice")?, user("bob")?, user("carol")?);
    people.create_group(&ops, &carol, &[]).await.map_err(text)?;
    same!(people.add_member(&ops, &bob, Role::Member, 0).await, Ok(true), "adding bob");
    same!(people.add_member(&ops, &alice, Role::Admin, 0).await, Ok(true), "adding alice");
    same!(people.add_member(&ops, &alice, Role::Member, 0).await, Ok(false), "adding alice again");
    let wanted = ["carol:owner", "bob:member", "alice:admin"];
    same!(members(&people, "ops").await?, wanted, "members in the order of joining");
    same!(people.role(&ops, &alice).await, Ok(Some(Role::Admin)), "alice's role");
    same!(people.role(&none, &alice).await, Ok(None), "alice's role in no group");
    same!(people.role(&ops, &user("nobody")?).await, Ok(None), "nobody's role");
    same!(people.set_role(&ops, &bob, Role::Admin).await, Ok(true), "promoting bob");
    same!(people.role(&ops, &bob).await, Ok(Some(Role::Admin)), "bob's role");
    same!(
        people.set_role(&ops, &user("nobody")?, Role::Admin).await,
        Ok(false),
        "promoting nobody"
    );
    same!(people.remove_member(&ops, &bob).await, Ok(true), "removing bob");
    same!(people.remove_member(&ops, &bob).await, Ok(false), "removing bob again");
    same!(people.role(&ops, &bob).await, Ok(None), "bob's role afterwards");
    same!(people.add_member(&ops, &bob, Role::Member, 0).await, Ok(true), "adding bob again");
    let wanted = ["carol:owner", "alice:admin", "bob:member"];
    same!(members(&people, "ops").await?, wanted, "members afterwards");

    let missing = Err(DirectoryError::NoSuchGroup(none.clone()));
    same!(people.add_member(&none, &bob, Role::Member, 0).await, missing, "adding to no group");
    same!(people.remove_member(&none, &bob).await, missing, "removing from no group");
    same!(people.set_role(&none, &bob, Role::Admin).await, missing, "promoting in no group");
    let stranger = user("nobody")?;
    let nobody = Err(DirectoryError::NoSuchUser(stranger.clone()));
    same!(people.add_member(&ops, &stranger, Role::Member, 0).await, nobody, "adding nobody");
    Ok(())
}

async fn a_group_with_members_has_an_owner(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let ops = group("ops")?;
    let (alice, bob, carol) = (user("alice")?, user("bob")?, user("carol")?);
    people.create_group(&ops, &alice, &[bob.clone(), carol.clone()]).await.map_err(text)?;
    let last = Err(DirectoryError::LastOwner(ops.clone()));
    same!(people.set_role(&ops, &alice, Role::Admin).await, last, "the last owner steps down");
    same!(people.set_role(&ops, &alice, Role::Owner).await, Ok(true), "the last owner stays");
    people.set_role(&ops, &carol, Role::Admin).await.map_err(text)?;
    people.remove_member(&ops, &alice).await.map_err(text)?;
    same!(members(&people, "ops").await?, ["bob:member", "carol:owner"], "after the owner left");
    people.remove_member(&ops, &carol).await.map_err(text)?;
    same!(members(&people, "ops").await?, ["bob:owner"], "after the last admin left");
    people.add_member(&ops, &alice, Role::Owner, 0).await.map_err(text)?;
    same!(
        people.set_role(&ops, &bob, Role::Member).await,
        Ok(true),
        "one of two owners steps down"
    );
    people.remove_member(&ops, &alice).await.map_err(text)?;
    same!(members(&people, "ops").await?, ["bob:owner"], "after the other owner left");
    Ok(())
}

async fn concurrent_leavers_do_not_leave_a_group_without_owner(harness: Any<'_>) -> Outcome {
    let all: Vec<String> = (0..12).map(|number| format!("u{number:02}")).collect();
    let people = with(harness, &all.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let ops = group("ops")?;
    people.create_group(&ops, &user("u00")?, &[]).await.map_err(text)?;
    for name in &all {
        people.add_member(&ops, &user(name)?, Role::Owner, 0).await.map_err(text)?;
    }
    let leaving = all.iter().take(11).cloned().map(|name| {
        let (people, ops) = (Arc::clone(&people), ops.clone());
        tokio::spawn(async move {
            let who = user(&name)?;
            // Whoever may step down does; then all leave.
            let _ = people.set_role(&ops, &who, Role::Member).await;
            people.remove_member(&ops, &who).await.map_err(text)
        })
    });
    for task in join_all(leaving).await {
        task.map_err(text)??;
    }
    same!(members(&people, "ops").await?, ["u11:owner"], "who is left");
    Ok(())
}

async fn the_name_of_an_empty_group_stays_taken(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "mallory"]).await?;
    let (ops, alice) = (group("ops")?, user("alice")?);
    people.create_group(&ops, &alice, &[]).await.map_err(text)?;
    same!(people.remove_member(&ops, &alice).await, Ok(true), "the last member leaves");
    same!(people.members(&ops).await, Ok(Some(Vec::new())), "the empty group");
    let taken = people.create_group(&ops, &user("mallory")?, &[]).await;
    same!(taken, Err(DirectoryError::GroupExists(ops)), "taking over its name");
    Ok(())
}

async fn groups_of_a_user_are_those_he_is_in(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let (alice, bob, carol) = (user("alice")?, user("bob")?, user("carol")?);
    for (name, owner, other) in [("z", &alice, &bob), ("a", &bob, &alice), ("m", &bob, &carol)] {
        people
            .create_group(&group(name)?, owner, std::slice::from_ref(other))
            .await
            .map_err(text)?;
    }
    let groups = people.groups_of(&alice).await.map_err(text)?;
    same!(groups, [group("a")?, group("z")?], "alice's groups");
    for (one, other, wanted) in [
        (&alice, &bob, true),
        (&bob, &alice, true),
        (&alice, &carol, false),
        (&alice, &user("nobody")?, false),
    ] {
        same!(people.share_group(one, other).await, Ok(wanted), "whether {one} and {other} share");
    }
    for name in ["z", "a"] {
        people.remove_member(&group(name)?, &alice).await.map_err(text)?;
    }
    same!(people.groups_of(&alice).await, Ok(Vec::new()), "alice's groups after leaving");
    same!(people.share_group(&alice, &bob).await, Ok(false), "sharing after leaving");
    same!(people.groups_of(&user("nobody")?).await, Ok(Vec::new()), "nobody's groups");
    Ok(())
}

async fn participants_are_everyone_who_gets_a_message(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let (alice, bob) = (user("alice")?, user("bob")?);
    people.create_group(&group("ops")?, &bob, std::slice::from_ref(&alice)).await.map_err(text)?;
    for (name, wanted) in [
        ("direct:alice:bob", &["alice", "bob"][..]),
        ("direct:alice:alice", &["alice"]),
        ("group:ops", &["bob", "alice"]),
    ] {
        let found = people.participants(&conversation(name)?).await.map_err(text)?;
        same!(names(&found), wanted, "participants of {name}");
    }
    let nobody = Err(DirectoryError::NoSuchUser(user("nobody")?));
    let found = people.participants(&conversation("direct:alice:nobody")?).await;
    same!(found, nobody, "participants with nobody");
    let missing = Err(DirectoryError::NoSuchGroup(group("none")?));
    same!(people.participants(&conversation("group:none")?).await, missing, "of no group");
    Ok(())
}

async fn a_device_is_new_once(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let people = harness.create(clock.clone()).await;
    let (alice, bob, nobody) = (user("alice")?, user("bob")?, user("nobody")?);
    people.create_user(&alice, None).await.map_err(text)?;
    people.create_user(&bob, None).await.map_err(text)?;
    let (phone, desk) = (device("phone")?, device("desk")?);
    let new = Ok(Registration::new(true, false));
    let known = |seeded| Ok(Registration::new(false, seeded));
    same!(people.register_device(&alice, &phone).await, new, "a new device");
    same!(people.register_device(&alice, &phone).await, known(false), "the device again");
    people.mark_seeded(&alice, &phone).await.map_err(text)?;
    same!(people.register_device(&alice, &phone).await, known(true), "the device once seeded");
    clock.advance(Duration::from_secs(5));
    same!(people.register_device(&alice, &desk).await, new, "another device");
    same!(people.register_device(&bob, &phone).await, new, "another user's device");
    let devices = people.devices(&alice).await.map_err(text)?;
    let found: Vec<_> = devices.iter().map(|d| (d.name.as_str(), d.registered, d.seeded)).collect();
    same!(found, [("phone", START, true), ("desk", START + 5000, false)], "alice's devices");
    same!(people.remove_device(&alice, &phone).await, Ok(true), "removing a device");
    same!(people.remove_device(&alice, &phone).await, Ok(false), "removing it again");
    same!(people.register_device(&alice, &phone).await, new, "a removed device");

    let missing = Err(DirectoryError::NoSuchDevice(desk.clone()));
    same!(people.mark_seeded(&bob, &desk).await, missing, "seeding an unknown device");
    let refused = Err(DirectoryError::NoSuchUser(nobody.clone()));
    same!(people.register_device(&nobody, &desk).await, refused, "a device of nobody");
    same!(people.devices(&nobody).await, Ok(Vec::new()), "nobody's devices");
    Ok(())
}

async fn devices_are_bounded_in_number(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice"]).await?;
    let alice = user("alice")?;
    for number in 0..MAX_DEVICES {
        people.register_device(&alice, &device(&format!("d{number}"))?).await.map_err(text)?;
    }
    let more = device("more")?;
    let refused = Err(DirectoryError::TooManyDevices);
    same!(people.register_device(&alice, &more).await, refused, "one device too many");
    let known = Ok(Registration::new(false, false));
    same!(
        people.register_device(&alice, &device("d0")?).await,
        known,
        "a known device at the bound"
    );
    people.remove_device(&alice, &device("d0")?).await.map_err(text)?;
    let new = Ok(Registration::new(true, false));
    same!(people.register_device(&alice, &more).await, new, "a device in place of another");
    Ok(())
}

async fn who_is_known_survives_a_restart(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["bob"]).await?;
    let (alice, bob) = (user("alice")?, user("bob")?);
    let password = PasswordHash::from_stored("hash".to_owned());
    people.create_user(&alice, Some(&password)).await.map_err(text)?;
    people.create_group(&group("ops")?, &bob, std::slice::from_ref(&alice)).await.map_err(text)?;
    people.register_device(&alice, &device("phone")?).await.map_err(text)?;
    people.mark_seeded(&alice, &device("phone")?).await.map_err(text)?;
    let devices = people.devices(&alice).await.map_err(text)?;

    let Some(people) = harness.restart(people).await else { return Ok(()) };
    same!(names(&people.users("", "", 9).await.map_err(text)?), ["alice", "bob"], "users");
    same!(people.password_hash(&alice).await, Ok(Some(password)), "alice's password");
    same!(members(&people, "ops").await?, ["bob:owner", "alice:member"], "members");
    same!(people.devices(&alice).await, Ok(devices), "alice's devices");
    Ok(())
}

async fn a_member_is_kept_as_he_joined(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob"]).await?;
    let (ops, alice, bob) = (group("ops")?, user("alice")?, user("bob")?);
    people.create_group(&ops, &alice, &[]).await.map_err(text)?;
    same!(people.mute(&ops, &bob, Some(START)).await, Ok(false), "muting no member");
    people.add_member(&ops, &bob, Role::Member, 41).await.map_err(text)?;
    let joined = Member::new(bob.clone(), Role::Member).with_since(41);
    same!(people.member(&ops, &bob).await, Ok(Some(joined.clone())), "bob as he joined");
    let muted = joined.clone().with_muted_until(Some(START));
    same!(people.mute(&ops, &bob, Some(START)).await, Ok(true), "muting bob");
    same!(people.member(&ops, &bob).await, Ok(Some(muted.clone())), "bob when muted");
    let everyone = Some(vec![Member::new(alice, Role::Owner), muted]);
    same!(people.members(&ops).await, Ok(everyone), "everyone");
    same!(people.mute(&ops, &bob, None).await, Ok(true), "letting bob speak");
    same!(people.member(&ops, &bob).await, Ok(Some(joined)), "bob when he may speak again");
    people.mute(&ops, &bob, Some(START)).await.map_err(text)?;
    people.remove_member(&ops, &bob).await.map_err(text)?;
    same!(people.member(&ops, &bob).await, Ok(None), "bob when he is gone");
    people.add_member(&ops, &bob, Role::Member, 50).await.map_err(text)?;
    let again = Member::new(bob.clone(), Role::Member).with_since(50);
    same!(people.member(&ops, &bob).await, Ok(Some(again)), "bob when he is back");
    Ok(())
}

async fn a_group_is_run_as_it_was_set(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice"]).await?;
    let (ops, alice) = (group("ops")?, user("alice")?);
    same!(people.settings(&ops).await, Ok(None), "settings of no group");
    let set = GroupSettings::default()
        .with_title("Operations ✓")
        .with_open(true)
        .with_history(HistoryFrom::Joining);
    let missing = Err(DirectoryError::NoSuchGroup(ops.clone()));
    same!(people.set_settings(&ops, &set).await, missing, "setting no group");
    people.create_group(&ops, &alice, &[]).await.map_err(text)?;
    same!(people.settings(&ops).await, Ok(Some(GroupSettings::default())), "settings at first");
    people.set_settings(&ops, &set).await.map_err(text)?;
    same!(people.settings(&ops).await, Ok(Some(set)), "settings that were set");
    Ok(())
}

async fn a_block_is_of_one_by_another(harness: Any<'_>) -> Outcome {
    let people = with(harness, &["alice", "bob", "carol"]).await?;
    let (alice, bob, carol) = (user("alice")?, user("bob")?, user("carol")?);
    same!(people.contact(&alice, &bob).await, Ok(Contact::Open), "contact at first");
    same!(people.block(&alice, &bob).await, Ok(true), "the first block");
    same!(people.block(&alice, &bob).await, Ok(false), "the same block again");
    same!(people.contact(&alice, &bob).await, Ok(Contact::Blocks), "who has blocked");
    same!(people.contact(&bob, &alice).await, Ok(Contact::Blocked), "who was blocked");
    same!(people.contact(&carol, &bob).await, Ok(Contact::Open), "others");
    same!(people.contact(&bob, &bob).await, Ok(Contact::Open), "oneself");
    people.block(&carol, &bob).await.map_err(text)?;
    same!(people.blocked(&alice).await, Ok(vec![bob.clone()]), "whom alice has blocked");
    let both = vec![alice.clone(), carol.clone()];
    same!(people.blockers(&bob).await, Ok(both), "who has blocked bob");
    same!(people.unblock(&alice, &bob).await, Ok(true), "taking it back");
    same!(people.unblock(&alice, &bob).await, Ok(false), "taking it back again");
    same!(people.contact(&bob, &alice).await, Ok(Contact::Open), "contact at last");
    let nobody = user("nobody")?;
    let missing = Err(DirectoryError::NoSuchUser(nobody.clone()));
    same!(people.contact(&alice, &nobody).await, missing, "contact with nobody");
    let missing = Err(DirectoryError::NoSuchUser(nobody.clone()));
    same!(people.block(&alice, &nobody).await, missing, "blocking nobody");
    Ok(())
}
