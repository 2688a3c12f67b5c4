//! What a contract is told of its call and of the chain, and what it tells.

use super::*;

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "input_len", |mut host: Host<'_>| {
            charge(&mut host, "input_len", 0)?;
            Ok(host.data().frame.input.len() as u32)
        })?
        .func_wrap(MODULE, "input_read", |mut host: Host<'_>, dst: u32| {
            let len = host.data().frame.input.len();
            charge_copy(&mut host, "input_read", len)?;
            let (memory, state) = guest(&mut host)?;
            Ok(put(memory, "input_read", dst, &state.frame.input)?)
        })?
        .func_wrap(
            MODULE,
            "return_data",
            |mut host: Host<'_>, ptr: u32, len: u32| {
                let data = data(&mut host, "return_data", ptr, len)?;
                host.data_mut().frame.output = data;
                Ok(())
            },
        )?
        .func_wrap(
            MODULE,
            "revert",
            |mut host: Host<'_>, ptr: u32, len: u32| -> HostResult<()> {
                let data = data(&mut host, "revert", ptr, len)?;
                host.data_mut().frame.reverted = Some(data);
                Err(Exit::Revert.into())
            },
        )?
        .func_wrap(MODULE, "caller", |mut host: Host<'_>, dst: u32| {
            let caller = host.data().frame.caller.0;
            give(&mut host, "caller", dst, &caller)
        })?
        .func_wrap(MODULE, "origin", |mut host: Host<'_>, dst: u32| {
            let origin = host.data_mut().run().env.origin.0;
            give(&mut host, "origin", dst, &origin)
        })?
        .func_wrap(MODULE, "self_address", |mut host: Host<'_>, dst: u32| {
            let address = host.data().frame.contract.0;
            give(&mut host, "self_address", dst, &address)
        })?
        .func_wrap(MODULE, "value", |mut host: Host<'_>, dst: u32| {
            let value = host.data().frame.value.to_le_bytes();
            give(&mut host, "value", dst, &value)
        })?
        .func_wrap(MODULE, "fuel_left", |mut host: Host<'_>| {
            charge(&mut host, "fuel_left", 0)?;
            let limit = host.data().fuel;
            let used = limit.used(&mut host).ok_or(Trap::OutOfFuel)?;
            Ok(limit.fuel() - used)
        })?
        .func_wrap(MODULE, "block_height", |mut host: Host<'_>| {
            charge(&mut host, "block_height", 0)?;
            Ok(host.data_mut().run().env.height)
        })?
        .func_wrap(MODULE, "block_time", |mut host: Host<'_>| {
            charge(&mut host, "block_time", 0)?;
            Ok(host.data_mut().run().env.timestamp_ms)
        })?
        .func_wrap(MODULE, "chain_id", |mut host: Host<'_>| {
            charge(&mut host, "chain_id", 0)?;
            Ok(host.data_mut().run().env.chain_id)
        })?
        .func_wrap(MODULE, "block_proposer", |mut host: Host<'_>, dst: u32| {
            let proposer = host.data_mut().run().env.proposer.0;
            give(&mut host, "block_proposer", dst, &proposer)
        })?
        .func_wrap(MODULE, "balance", balance)?
        .func_wrap(MODULE, "code_hash", code_hash)?
        .func_wrap(MODULE, "transfer", transfer)?
        .func_wrap(MODULE, "emit", emit)?;
    Ok(())
}

fn data(host: &mut Host<'_>, function: &'static str, ptr: u32, len: u32) -> HostResult<Vec<u8>> {
    charge_copy(host, function, len as usize)?;
    let (memory, state) = guest(host)?;
    let limit = state.params().limits.data_bytes;
    Ok(bytes(memory, function, ptr, len, limit)?.to_vec())
}

fn balance(mut host: Host<'_>, address: u32, dst: u32) -> HostResult<()> {
    const NAME: &str = "balance";
    let fuel = host.data().params().fees.account_get;
    charge(&mut host, NAME, fuel)?;
    let (memory, state) = guest(&mut host)?;
    let address = Address(array(memory, NAME, address)?);
    let account = fallible(state, |run| run.overlay.account(&address))?;
    Ok(put(memory, NAME, dst, &account.balance.to_le_bytes())?)
}

fn code_hash(mut host: Host<'_>, address: u32, dst: u32) -> HostResult<u32> {
    const NAME: &str = "code_hash";
    let fuel = host.data().params().fees.account_get;
    charge(&mut host, NAME, fuel)?;
    let (memory, state) = guest(&mut host)?;
    let address = Address(array(memory, NAME, address)?);
    match fallible(state, |run| run.overlay.code_of(&address))? {
        Some(hash) => {
            put(memory, NAME, dst, &hash.0)?;
            Ok(1)
        }
        None => Ok(0),
    }
}

fn transfer(mut host: Host<'_>, to: u32, amount: u32) -> HostResult<u32> {
    const NAME: &str = "transfer";
    let fuel = host.data().params().fees.transfer;
    charge(&mut host, NAME, fuel)?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let to = Address(array(memory, NAME, to)?);
    let amount = u128::from_le_bytes(array(memory, NAME, amount)?);
    let from = state.frame.contract;
    let done = fallible(state, |run| run.transfer(&from, &to, amount))?;
    Ok(if done { 0 } else { calls::LOW_BALANCE })
}

fn emit(mut host: Host<'_>, topics: u32, count: u32, data: u32, len: u32) -> HostResult<()> {
    const NAME: &str = "emit";
    let fees = &host.data().params().fees;
    let size = 32 * u64::from(count) + u64::from(len);
    let fuel = linear(fees.event, fees.event_per_byte, size);
    charge(&mut host, NAME, fuel)?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let limits = &state.params().limits;
    if count as usize > limits.event_topics {
        let limit = limits.event_topics;
        return Err(HostError::TooManyTopics { count, limit }.into());
    }
    let (events, event_bytes) = (limits.events, limits.event_bytes);
    let (topics, _) = bytes(memory, NAME, topics, 32 * count, usize::MAX)?.as_chunks();
    let event = Event {
        contract: state.frame.contract,
        topics: topics.iter().copied().map(Hash).collect(),
        data: bytes(memory, NAME, data, len, event_bytes)?.to_vec(),
    };
    let run = state.run();
    if run.events.len() == events {
        return Err(HostError::TooManyEvents(events).into());
    }
    if let Some(trace) = &mut run.trace {
        trace.event(&event);
    }
    run.events.push(event);
    Ok(())
}
