"""One thread or task at a time uses a model, nobody else's pass is touched, and nothing is left behind."""

import asyncio
import copy
import gc
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager, suppress

import pytest
import torch

import grains_lens as gl
from grains_lens.baselines import adapter
from grains_lens.baselines.adapter import adapted
from grains_lens.evaluation.divergence import _logprobs
from grains_lens.hosts.forward import _end_only
from grains_lens.hosts.model import frozen
from grains_lens.hosts.ownership import _uses, turn
from grains_lens.hosts.points import bare, edited, resid_post
from grains_lens.vectors.identity import residual_fingerprint
from tests import models
from tests.oracles import PAIRS, random_vectors, same_state, state_of

TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60], [2, 33, 12, 54, 6, 7]])


@pytest.fixture(scope="module")
def vectors():
    return random_vectors(7)


def logits(model, tokens=TOKENS):
    with torch.no_grad():
        return model(tokens)


class Beside:
    """A second thread that stops in the middle of its first pass, where `module` is run, until it is let go."""

    def __init__(self, module, work):
        self.result = self.error = None
        self._stopped, self._go_on = threading.Event(), threading.Event()

        def stop(module, inputs, output):
            if threading.current_thread() is self._thread:
                self._stopped.set()
                self._go_on.wait(60)

        def run():
            try:
                self.result = work()
            except Exception as error:
                self.error = error
            self._stopped.set()

        self._thread = threading.Thread(target=run)
        self._handle = module.register_forward_hook(stop)

    def __enter__(self):
        self._thread.start()
        assert self._stopped.wait(60)
        return self

    def __exit__(self, *exception):
        self._go_on.set()
        self._thread.join(60)
        self._handle.remove()


def at(model, layer=1):
    return model.hook_dict[resid_post(layer)]


# --- threads -------------------------------------------------------------------------------------


def test_a_thread_that_is_refused_leaves_the_steering_threads_pass_as_it_is(llama, vectors):
    """The pass has begun when the other thread asks, and goes on while it fingerprints."""
    belonging = gl.baselines.random_direction(llama, PAIRS[:1], seed=1)
    with gl.steering(llama, vectors, strength=1.0):
        expected = logits(llama)

    def steer():
        with gl.steering(llama, belonging, strength=1.0):
            pass

    passes = []
    inside = llama.blocks[1].mlp  # no hook point: this hook is not paused
    with gl.steering(llama, vectors, strength=1.0), Beside(inside, steer) as other:
        passes.append(logits(llama))
    assert torch.equal(passes[0], expected)
    assert isinstance(other.error, RuntimeError)
    assert "another thread is steering this model" in str(other.error)


def test_a_users_hooks_act_on_the_users_pass_while_another_thread_fingerprints(llama):
    seen, plain = [], residual_fingerprint(llama)
    handle = at(llama).register_forward_hook(lambda module, inputs, h: seen.append(1) or 2 * h)
    try:
        expected = logits(llama)
        with Beside(llama.blocks[0].mlp, lambda: residual_fingerprint(llama)) as other:
            assert torch.equal(logits(llama), expected)
        assert other.error is None
        assert torch.equal(other.result, plain)
        assert torch.equal(logits(llama), expected)
        assert len(seen) == 3
    finally:
        handle.remove()


@pytest.mark.parametrize("verb", ["preference", "attribute"])
def test_a_users_pass_beside_a_verb_is_the_users(llama, verb):
    run = {
        "preference": lambda: gl.preference(llama, PAIRS[:1], progress=False).gaps,
        "attribute": lambda: gl.attribute(llama, PAIRS[:1], progress=False, tolerance=9.0)[0].scores,
    }[verb]
    expected, alone = logits(llama), run()
    with Beside(llama.blocks[1].mlp, run) as other:
        here = logits(llama)
    assert here.shape == expected.shape
    torch.testing.assert_close(here, expected)
    assert other.error is None
    torch.testing.assert_close(other.result, alone)


def test_of_two_verbs_in_two_threads_the_second_is_refused_and_the_first_right(llama):
    def preference():
        return gl.preference(llama, PAIRS[:2], progress=False).gaps

    alone = preference()
    with Beside(at(llama), preference) as first:
        with pytest.raises(RuntimeError, match="another thread is using this model"):
            preference()
        with pytest.raises(RuntimeError, match="another thread is using this model"):
            gl.steering(llama, random_vectors(1), strength=1.0).install()
    assert first.error is None
    assert torch.equal(first.result, alone)
    assert torch.equal(preference(), alone)


def test_a_verb_of_several_steps_has_the_model_for_all_of_them(llama):
    """Refused at its beginning or not at all: no other thread comes in between two steps."""
    texts = ["the old fox", "a small stone"]
    gaps = gl.perplexity(llama, texts, batch_tokens=4)
    between, into = [], _logprobs

    def slip_in(*args):
        thread = threading.Thread(target=lambda: between.append(refused(llama)))
        thread.start()
        thread.join()
        return into(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grains_lens.evaluation.divergence._logprobs", slip_in)
        assert gl.perplexity(llama, texts, batch_tokens=4) == gaps
    assert between == [True, True]


def refused(model):
    try:
        with turn(model):
            return False
    except RuntimeError:
        return True


def test_a_bridge_and_the_model_inside_it_are_one(case, hooked, vectors):
    inside = getattr(hooked, "original_model", None)
    if inside is None:
        pytest.skip("a HookedTransformer has no model inside")
    answers = []
    with gl.steering(hooked, vectors, strength=1.0):
        thread = threading.Thread(target=lambda: answers.append(refused(inside)))
        thread.start()
        thread.join()
    assert answers == [True]


def test_what_a_thread_that_has_ended_installed_stays_and_refuses_no_one(llama, vectors):
    plain = logits(llama)
    thread = threading.Thread(target=lambda: gl.steering(llama, vectors, strength=1.0).install())
    thread.start()
    thread.join()
    try:
        assert not torch.equal(logits(llama), plain)
        gl.preference(llama, PAIRS[:1], progress=False)
    finally:
        gl.clear(llama)
    assert torch.equal(logits(llama), plain)


def test_a_fork_while_a_thread_uses_a_model_does_not_hang():
    """In the child that thread is not there, and neither are its claims."""
    script = """
import os, threading, warnings
warnings.simplefilter("ignore")
import torch
from grains_lens.hosts import ownership
model, held, done = torch.nn.Linear(1, 1), threading.Event(), threading.Event()
def hold():
    with ownership.turn(model):
        held.set()
        done.wait(60)
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    with ownership.turn(model):
        os._exit(7)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done.set()
assert code == 7, code
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_of_many_threads_that_come_at_once_one_has_the_model():
    model, inside, most = torch.nn.Linear(1, 1), [], []
    start = threading.Barrier(8)

    def use():
        start.wait()
        for _ in range(200):
            with suppress(RuntimeError), turn(model):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sys.setswitchinterval(before)
    assert set(most) == {1}
    assert _uses == []


# --- tasks ---------------------------------------------------------------------------------------


def test_a_second_task_that_would_steer_is_refused_and_one_inside_the_context_is_not(llama, vectors):
    outcomes = {}

    async def steer(name, begin, end):
        await begin.wait()
        try:
            with gl.steering(llama, vectors, strength=1.0):
                steered = logits(llama)
                outcomes[name] = await asyncio.create_task(child(steered))
                end.set()
                await asyncio.sleep(0.01)
                assert torch.equal(logits(llama), steered)
        except RuntimeError as error:
            outcomes[name] = str(error)

    async def child(steered):
        gl.preference(llama, PAIRS[:1], progress=False)
        return torch.equal(logits(llama), steered)

    async def both():
        first, second = asyncio.Event(), asyncio.Event()
        first.set()
        await asyncio.gather(steer("one", first, second), steer("two", second, second))

    asyncio.run(both())
    assert outcomes["one"] is True
    assert "another asyncio task is steering this model" in outcomes["two"]


def test_what_a_finished_task_installed_is_replaced_by_the_next_as_cells_of_a_notebook_do(llama, vectors):
    plain = logits(llama)
    with gl.steering(llama, vectors, strength=0.5):
        half = logits(llama)

    async def cell(strength):
        gl.steering(llama, vectors, strength=strength).install()

    try:
        asyncio.run(cell(1.0))
        asyncio.run(cell(0.5))
        assert torch.equal(logits(llama), half)
    finally:
        gl.clear(llama)
    assert torch.equal(logits(llama), plain)


def test_tasks_that_write_with_one_steered_model_count_their_own_positions(llama, vectors):
    """Without a cache, the passes of the two taking turns in one thread."""
    prompts = [TOKENS[:1], TOKENS[1:, :4]]

    async def write(tokens):
        for _ in range(4):
            await asyncio.sleep(0)
            tokens = torch.cat([tokens, logits(llama, tokens)[:, -1:].argmax(dim=-1)], dim=-1)
        return tokens

    async def together():
        return await asyncio.gather(*map(write, prompts))

    expected = []
    for prompt in prompts:
        with gl.steering(llama, vectors, strength=1.5, positions="new"):
            expected.append(asyncio.run(write(prompt)))
    with gl.steering(llama, vectors, strength=1.5, positions="new"):
        for text, alone in zip(asyncio.run(together()), expected, strict=True):
            assert torch.equal(text, alone)


def test_a_fingerprint_in_the_middle_of_a_text_does_not_make_it_a_new_prompt(llama, vectors):
    def write(between):
        tokens = TOKENS[:1]
        for _ in range(4):
            tokens = torch.cat([tokens, logits(llama, tokens)[:, -1:].argmax(dim=-1)], dim=-1)
            between()
        return logits(llama, tokens)

    with gl.steering(llama, vectors, strength=1.5, positions="new"):
        expected = write(lambda: None)
    with gl.steering(llama, vectors, strength=1.5, positions="new"):
        assert torch.equal(write(lambda: residual_fingerprint(llama)), expected)


# --- an exception between any two lines ------------------------------------------------------------


class Fault(BaseException):
    """What a signal raises, between two lines."""


@contextmanager
def tracing(files, line):
    """`line(frame)` is called at every line of these files."""

    def trace(frame, event, arg):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            line(frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def lines_of(work, files):
    """The numbers of the line events, where each line is come to for the first and for the last time."""
    seen = []
    with tracing(files, lambda frame: seen.append((frame.f_code.co_filename, frame.f_lineno))):
        work()
    last = {line: number for number, line in enumerate(seen)}
    first = {line: number for number, line in reversed(list(enumerate(seen)))}
    return sorted({*first.values(), *last.values()})


def fail_at(number, work, files):
    """Run `work`, with a fault in front of line event `number`; what the failing line's function is called."""
    left = [number]

    def line(frame):
        left[0] -= 1
        if left[0] < 0:
            sys.settrace(None)
            raise Fault(frame.f_code.co_name)

    try:
        with tracing(files, line):
            work()
    except Fault as fault:
        return str(fault)
    finally:
        # A fault on a `with` statement's own line, as it ends, keeps Python from ending torch.no_grad() there.
        torch.set_grad_enabled(True)
    raise AssertionError(f"no line {number}")


def quick_state(model):
    modules = list(model.modules())
    roots = {id(m): m for root in (model, getattr(model, "original_model", model)) for m in root.modules()}
    return (
        [(list(m._forward_hooks.items()), list(m._forward_pre_hooks.items())) for m in roots.values()],
        [(m._forward_hooks_with_kwargs, m._forward_pre_hooks_with_kwargs) for m in roots.values()],
        [parameter.requires_grad for parameter in model.parameters()],
        [module.training for module in modules],
        [id(module) for module in roots.values()],
        "peft_config" in vars(getattr(model, "original_model", model)),
    )


OURS = [
    sys.modules[f"grains_lens.{name}"].__file__
    for name in ("hosts.ownership", "hosts.hooks", "hosts.points", "hosts.model", "intervention.contexts")
]


def check_every_line(model, work, files=OURS):
    """After a fault before any line the next use warns of what it has to put back, and puts it back."""
    work()  # every function's first call is checked, which takes lines of its own
    with torch.no_grad():
        model(TOKENS)
    before, left = quick_state(model), 0
    for number in lines_of(work, files):
        where = fail_at(number, work, files)
        changed = quick_state(model) != before
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with turn(model):
                pass
        assert quick_state(model) == before, where
        assert _uses == [], where
        if changed:
            left += 1
            assert any("was put back now" in str(warning.message) for warning in caught), where
    return left


@pytest.fixture
def training(llama):
    """The tiny Llama as one in training has it, and with hooks of the user's."""
    handle = at(llama).register_forward_hook(lambda module, inputs, h: None)
    last = list(llama.parameters())[-1]
    asked = last.requires_grad
    last.requires_grad_(True)
    llama.training = True
    yield llama
    llama.training = False
    last.requires_grad_(asked)
    handle.remove()


def test_a_fault_before_any_line_of_a_verbs_contexts_is_mended_at_the_next_use(training):

    def verb():
        edits = [(resid_post(0), lambda h: None)]
        last = _end_only(training, slice(-1, None))
        with frozen(training), bare(training), edited(training, edits), last:
            pass

    assert check_every_line(training, verb) > 3


def test_a_fault_before_any_line_of_steering_leaves_it_on_and_saying_so_or_is_mended(llama, vectors):
    logits(llama)
    before, plain = quick_state(llama), logits(llama)
    still_on = set()

    def work():
        with steer:
            pass

    steer = gl.steering(llama, vectors, strength=1.0)
    for number in lines_of(work, OURS):
        steer = gl.steering(llama, vectors, strength=1.0)
        where = fail_at(number, work, OURS)
        if steer.is_on:  # before anything had been taken off
            still_on.add(where)
            assert not torch.equal(logits(llama), plain)
            gl.clear(llama)
            assert not steer.is_on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with turn(llama):
                pass
        assert quick_state(llama) == before, where
        assert _uses == [], where
    assert still_on <= {"__exit__", "remove", "surely"}


def test_a_fault_before_any_line_of_an_adapters_contexts_is_mended_at_the_next_use(llama):
    from grains_lens.hosts.kinds import is_hooked_transformer

    if is_hooked_transformer(llama):
        pytest.skip("a HookedTransformer is refused")

    def train():
        with frozen(llama), adapted(llama, rank=1, alpha=1.0, targets=("q_proj",), seed=0):
            pass

    assert check_every_line(llama, train, [adapter.__file__]) > 3


def test_what_is_left_is_known_though_the_traceback_is_kept(llama):
    """In a notebook, sys.last_traceback keeps every frame of what was interrupted."""

    def verb():
        with frozen(llama), edited(llama, [(resid_post(0), lambda h: 0 * h)]):
            raise KeyboardInterrupt

    before = state_of(llama)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grains_lens.hosts.hooks.take_off", fault)
        try:
            verb()
        except Fault as error:
            kept.append(error)
    gc.collect()
    with pytest.warns(RuntimeWarning, match="put back now"), turn(llama):
        pass
    assert same_state(before, state_of(llama))
    assert kept


def test_what_was_put_back_is_not_put_back_again_in_the_middle_of_another_verb(training):
    """A context that is only closed when its traceback is dropped, after the next use has put things back."""
    flags = quick_state(training)[2:4]

    def interrupted(into):
        into.append(frozen(training))
        into[0].__enter__()  # and never left

    kept = []
    interrupted(kept)
    with pytest.warns(RuntimeWarning, match="put back now"), turn(training):
        pass
    assert quick_state(training)[2:4] == flags
    with frozen(training):
        ours = quick_state(training)[2:4]
        assert ours != flags
        kept.clear()
        gc.collect()
        assert quick_state(training)[2:4] == ours
    assert quick_state(training)[2:4] == flags


def fault(*args):
    raise Fault


# --- clear and install -----------------------------------------------------------------------------


def test_installing_anew_replaces_what_was_installed_and_leaves_contexts_alone(hooked, vectors):
    plain, before = logits(hooked), state_of(hooked)
    settings = {"rule": gl.add, "unit": "raw"}
    with gl.steering(hooked, vectors, strength=0.4, **settings):
        context = logits(hooked)
        with gl.steering(hooked, vectors, strength=0.3, **settings):
            expected = logits(hooked)
        first = gl.steering(hooked, vectors, strength=1.0, **settings).install()
        for _ in range(2):  # a cell that is run twice
            last = gl.steering(hooked, vectors, strength=0.3, **settings).install()
        torch.testing.assert_close(logits(hooked), expected)
        assert not first.is_on
        assert last.is_on
        first.remove()
        torch.testing.assert_close(logits(hooked), expected)
        last.remove()
        assert torch.equal(logits(hooked), context)
    assert torch.equal(logits(hooked), plain)
    assert same_state(before, state_of(hooked))


def test_clear_takes_off_all_that_is_ours_and_nothing_else(hooked, vectors):
    before = state_of(hooked)
    seen = []
    handle = at(hooked).register_forward_hook(lambda module, inputs, h: seen.append(1))
    plain = logits(hooked)
    gl.steering(hooked, vectors, strength=1.0, positions="new").install()  # its handle is lost
    context = gl.steering(hooked, vectors, strength=1.0)
    with context:
        gl.clear(hooked)
        assert not context.is_on
        assert torch.equal(logits(hooked), plain)
    gl.clear(hooked)
    assert len(seen) == 2
    handle.remove()
    assert same_state(before, state_of(hooked))


def test_clear_takes_off_an_adapter_whose_handle_is_lost(llama):
    from grains_lens.hosts.kinds import is_hooked_transformer

    if is_hooked_transformer(llama):
        pytest.skip("a HookedTransformer is refused")
    before, plain = state_of(llama), logits(llama)
    gl.baselines.lora_sft(llama, PAIRS[:1], steps=1, rank=1, progress=False).install()
    gc.collect()
    assert not torch.equal(logits(llama), plain)
    gl.clear(llama)
    assert torch.equal(logits(llama), plain)
    assert same_state(before, state_of(llama))


def test_a_verb_whose_hooks_were_cleared_says_so(llama):
    with (
        pytest.raises(RuntimeError, match="clear"),
        edited(llama, [(resid_post(0), lambda h: None)]),
    ):
        gl.clear(llama)


def test_clear_of_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="model is a str"):
        gl.clear("gpt2")


def test_a_copy_made_under_steering_is_not_steered(vectors):
    plain = models.build_hf("llama")
    with torch.no_grad():
        expected = plain(TOKENS).logits
        with gl.steering(plain, vectors, strength=1.0, positions="new"):
            other = copy.deepcopy(plain)
        assert torch.equal(other(TOKENS).logits, expected)
        with gl.steering(other, vectors, strength=1.0):
            assert not torch.equal(other(TOKENS).logits, expected)
        assert torch.equal(other(TOKENS).logits, expected)


def test_a_plain_model_is_cleared_too(vectors):
    plain = models.build_hf("llama")
    with torch.no_grad():
        expected = plain(TOKENS).logits
        gl.steering(plain, vectors, strength=1.0).install()
        assert not torch.equal(plain(TOKENS).logits, expected)
        gl.clear(plain)
        assert torch.equal(plain(TOKENS).logits, expected)
