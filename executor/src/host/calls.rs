//! Calls of other contracts.

use super::*;
use crate::vm::{Call, Called, Ended, Entry, Refusal};

/// Flags of `call`.
const STATIC: u32 = 1;

/// What [`Refusal::Balance`] is as a status.
pub(super) const LOW_BALANCE: u32 = 7;

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "call", call)?
        .func_wrap(MODULE, "deploy", deploy)?
        .func_wrap(MODULE, "upgrade", upgrade)?
        .func_wrap(MODULE, "returned_len", |mut host: Host<'_>| {
            charge(&mut host, "returned_len", 0)?;
            Ok(host.data().frame.returned.len() as u32)
        })?
        .func_wrap(MODULE, "returned_read", |mut host: Host<'_>, dst: u32| {
            let len = host.data().frame.returned.len();
            charge_copy(&mut host, "returned_read", len)?;
            let (memory, state) = guest(&mut host)?;
            Ok(put(memory, "returned_read", dst, &state.frame.returned)?)
        })?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
fn call(
    mut host: Host<'_>,
    contract: u32,
    method: u32,
    method_len: u32,
    input: u32,
    input_len: u32,
    value: u32,
    fuel: u64,
    flags: u32,
) -> HostResult<u32> {
    const NAME: &str = "call";
    charge_call(
        &mut host,
        NAME,
        u64::from(method_len) + u64::from(input_len),
    )?;
    if flags & !STATIC != 0 {
        let function = NAME;
        return Err(HostError::Flags { function, flags }.into());
    }
    let (memory, state) = guest(&mut host)?;
    let limits = &state.params().limits;
    let contract = Address(array(memory, NAME, contract)?);
    let method = bytes(memory, NAME, method, method_len, limits.method_bytes)?;
    let method = std::str::from_utf8(method).map_err(|_| HostError::MethodName)?;
    let method = method.to_owned();
    let input = bytes(memory, NAME, input, input_len, limits.data_bytes)?.to_vec();
    let value = u128::from_le_bytes(array(memory, NAME, value)?);
    let read_only = state.frame.read_only || flags & STATIC != 0;
    if read_only && value > 0 {
        return Err(HostError::ReadOnly(NAME).into());
    }
    let caller = state.frame.contract;
    let fuel = share(&mut host, fuel)?;
    nested(&mut host, |vm, run| {
        let entry = Entry::Method(&method);
        vm.call(
            run,
            Call {
                contract,
                caller,
                entry,
                input,
                value,
                fuel,
                read_only,
            },
        )
    })
}

fn deploy(
    mut host: Host<'_>,
    code_hash: u32,
    input: u32,
    input_len: u32,
    value: u32,
    fuel: u64,
    dst: u32,
) -> HostResult<u32> {
    const NAME: &str = "deploy";
    charge_call(&mut host, NAME, input_len.into())?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let code = Hash(array(memory, NAME, code_hash)?);
    let limit = state.params().limits.data_bytes;
    let input = bytes(memory, NAME, input, input_len, limit)?.to_vec();
    let value = u128::from_le_bytes(array(memory, NAME, value)?);
    // Before anything is done for a pointer that is no good.
    put(memory, NAME, dst, &[0; 32])?;
    let deployer = state.frame.contract;
    if !fallible(state, |run| run.has_code(&code))? {
        state.frame.returned.clear();
        return Ok(status(&Ended::Refused(Refusal::NoContract)));
    }
    // Used up even if the deployment fails, so that no address is ever used twice.
    let contract = fallible(state, |run| {
        let mut account = run.overlay.account(&deployer)?;
        let contract = Address::of_contract(&deployer, account.nonce);
        account.nonce += 1;
        run.overlay.set_account(&deployer, &account);
        Ok(contract)
    })?;
    let fuel = share(&mut host, fuel)?;
    let status = nested(&mut host, |vm, run| {
        vm.deploy(
            run,
            code,
            Call {
                contract,
                caller: deployer,
                entry: Entry::Init,
                input,
                value,
                fuel,
                read_only: false,
            },
        )
    })?;
    if status == 0 {
        let (memory, _) = guest(&mut host)?;
        put(memory, NAME, dst, &contract.0)?;
    }
    Ok(status)
}

fn upgrade(
    mut host: Host<'_>,
    code_hash: u32,
    input: u32,
    input_len: u32,
    fuel: u64,
) -> HostResult<u32> {
    const NAME: &str = "upgrade";
    charge_call(&mut host, NAME, input_len.into())?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let code = Hash(array(memory, NAME, code_hash)?);
    let limit = state.params().limits.data_bytes;
    let input = bytes(memory, NAME, input, input_len, limit)?.to_vec();
    let contract = state.frame.contract;
    if !fallible(state, |run| run.has_code(&code))? {
        state.frame.returned.clear();
        return Ok(status(&Ended::Refused(Refusal::NoContract)));
    }
    let fuel = share(&mut host, fuel)?;
    nested(&mut host, |vm, run| {
        vm.upgrade(
            run,
            code,
            Call {
                contract,
                caller: contract,
                entry: Entry::Upgrade,
                input,
                value: 0,
                fuel,
                read_only: false,
            },
        )
    })
}

fn charge_call(host: &mut Host<'_>, name: &'static str, bytes: u64) -> HostResult<()> {
    let fees = &host.data().params().fees;
    let base = fees.call_base.saturating_add(fees.transfer);
    let fuel = linear(base, fees.host_per_byte, bytes);
    charge(host, name, fuel)
}

/// What a callee may use of `wanted`.
fn share(host: &mut Host<'_>, wanted: u64) -> HostResult<u64> {
    let limit = host.data().fuel;
    let used = limit.used(&mut *host).ok_or(Trap::OutOfFuel)?;
    let left = limit.fuel() - used;
    Ok(wanted.min(left - left / 64))
}

/// Lets `call` have the run, and charges for what it used.
fn nested(
    host: &mut Host<'_>,
    call: impl FnOnce(&Arc<Vm>, Box<Run>) -> Result<(Box<Run>, Called), ExecutionError>,
) -> HostResult<u32> {
    let stack_left = match host.data().stack {
        Some(global) => global.get(&mut *host).i32().unwrap_or(0),
        None => host.data().stack_left,
    };
    let state = host.data_mut();
    let vm = state.vm.clone();
    let mut run = state.run.take().ok_or(Exit::Fault)?;
    run.stack_left = stack_left;
    match call(&vm, run) {
        Ok((run, called)) => {
            state.run = Some(run);
            let status = status(&called.ended);
            if let Ended::Refused(refusal) = &called.ended
                && let Some(trace) = state.recorder()
            {
                trace.refused(&refusal.to_string());
            }
            state.frame.returned = match called.ended {
                Ended::Returned(data) | Ended::Reverted(data) => data,
                Ended::Aborted(_) | Ended::Refused(_) => Vec::new(),
            };
            take(host, called.used)?;
            Ok(status)
        }
        Err(error) => {
            state.fault = Some(error);
            Err(Exit::Fault.into())
        }
    }
}

fn status(ended: &Ended) -> u32 {
    match ended {
        Ended::Returned(_) => 0,
        Ended::Reverted(_) => 1,
        Ended::Aborted(_) => 2,
        Ended::Refused(refusal) => match refusal {
            Refusal::NoContract => 3,
            Refusal::NoMethod => 4,
            Refusal::Reentrant => 5,
            Refusal::TooDeep => 6,
            Refusal::Balance => LOW_BALANCE,
        },
    }
}
