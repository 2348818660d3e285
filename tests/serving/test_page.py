"""The page, as a person uses it: in Debian's Chromium, with mouse, keyboard and files."""

import asyncio
import base64
import contextlib
import dataclasses
import io
import math
import queue
import shutil
import threading

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image

from end2_tf.export import savedmodel
from end2_tf.export.thresholds import Thresholds
from end2_tf.heads import DirichletHead, SoftmaxHead
from end2_tf.models import UncertaintyClassifier
from end2_tf.serving import catalogue, server
from end2_tf.serving.settings import Settings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, isn't installed")
expect = playwright.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is called chromium"),
]

LIMITS = Thresholds(0.7, 0.1, "coverage", 0.9, 0.0, 0.01, 500, 1000, 0.9, 0.05)
ARMS = np.array([[0.0, 100.0], [-87.0, -50.0], [87.0, -50.0]])  # where each of three classes is
QUARTERS = ["top left", "top right", "bottom left", "bottom right"]
WAIT = 20_000  # milliseconds, for a condition


def _bright(quarter, size=8):
    """A square picture that is white in one quarter, 0 to 3, or nowhere."""
    pixels = np.zeros((2, 2, size // 2, size // 2), np.uint8)
    if quarter is not None:
        pixels[divmod(quarter, 2)] = 255
    return pixels.transpose(0, 2, 1, 3).reshape(size, size)


def _png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _picture(part, label, pixels):
    return {"set": part, "class": label, "png": base64.b64encode(_png(pixels)).decode()}


def _export(root, name, shape, weights, head, thresholds, **details):
    """Writes a linear model of the logits; where they are 0, it says nothing."""
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(weights.shape[1], use_bias=False)]
    network = keras.Sequential(layers)
    network.set_weights([weights])
    model = UncertaintyClassifier(network, head)
    inputs = np.zeros((2, *shape), np.uint8 if len(shape) == 3 else np.float32)
    with pytest.MonkeyPatch.context() as patch:  # tests/export/ tries what is exported
        patch.setattr(savedmodel, "_ask", lambda *args: {})
        patch.setattr(savedmodel, "_compare", lambda *args: 0.0)
        savedmodel.write(model, root / name, inputs=inputs, thresholds=thresholds, lite=False, details=details)


def _save(root, name, spec, weights):
    """Writes a linear model as another tool would: a Dirichlet, but no uncertainties, and nothing about it."""

    def predict(inputs):
        flat = tf.cast(tf.reshape(inputs, (-1, len(weights))), tf.float32)
        logits = flat @ tf.constant(weights, tf.float32)
        return {"probs": tf.nn.softmax(logits), "alphas": tf.exp(logits)}

    module = tf.Module()
    module.predict = tf.function(predict, input_signature=[spec])
    tf.saved_model.save(module, str(root / name / "1"), signatures={"serving_default": module.predict})


@contextlib.contextmanager
def _serving(models, port=0):
    """Serves models in a thread; gives the address."""
    ready = queue.Queue()

    async def main():
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        told = lambda address, _: ready.put((address, lambda: loop.call_soon_threadsafe(stop.set)))
        await server.answer_until(stop, models, Settings(port=port, grpc_port=None), say=lambda _: None, ready=told)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    address, stop = ready.get(timeout=120)
    yield address
    stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A student of two features, a single network of grey images, and three models of another tool."""
    root = tmp_path_factory.mktemp("page")
    largest = {"total": 0.9, "data": 0.8, "knowledge": 0.2}
    percentiles = {f"{name}_uncertainty": np.linspace(0, most, 101).tolist() for name, most in largest.items()}
    known = {
        "distribution": {"n": 1000, "percentiles": percentiles},
        "decisions": {
            "test": {"n": 2000, "abstained": 0.1, "error": 0.05, "error_of_all": 0.08},
            "middle": {"n": 500, "abstained": 0.75},
        },
    }
    arms = [{"set": "test", "class": f"arm {i}", "features": place.tolist()} for i, place in enumerate(ARMS, 1)]
    outside = [{"set": "middle", "class": None, "features": [x, 1.0]} for x in (0.0, 4.0)]
    names = [each["class"] for each in arms]
    student = {"head": DirichletHead(), "thresholds": LIMITS, "classes": names, "examples": arms + outside, **known}
    _export(root, "arms", (2,), 5e-4 * ARMS.T, **student)
    pictures = [_picture("test", name, _bright(i)) for i, name in enumerate(QUARTERS)]
    empty = _picture("middle", None, _bright(None))
    weights = np.stack([_bright(i).ravel() / 255 / 500 for i in range(4)], axis=1)  # a white quarter: 16·255/500 = 8.2
    limits = dataclasses.replace(LIMITS, unfamiliar=math.inf, rule="max_error", target=0.005)
    single = {"head": SoftmaxHead(), "thresholds": limits, "classes": QUARTERS, "examples": [*pictures, empty], **known}
    _export(root, "quarters", (8, 8, 1), weights, **single)
    _save(root, "colours", tf.TensorSpec((None, 4, 4, 3), tf.uint8), np.tile(np.eye(3), (16, 1)) / 500)
    _save(root, "five", tf.TensorSpec((None, 5), tf.float32), np.eye(5, 20))
    _save(root, "strange", tf.TensorSpec((None, 2), tf.float32), 5e-4 * ARMS.T)
    return root


@pytest.fixture(scope="module")
def site(folder):
    """The address of a server of these models."""
    with _serving(catalogue.find(folder)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        expect.set_options(timeout=WAIT)
        started = driver.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def visit(browser, site):
    """Opens the page: `visit("quarters", **options of the browser)`. A script that fails, fails the test."""
    wrong, contexts = [], []

    def start(model, address=site, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: "Failed to load" not in said.text and wrong.append(said.text))
        page.goto(f"{address}/#{model}")
        expect(page.get_by_role("status")).to_contain_text(":")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not wrong


def _says(page, text):
    expect(page.get_by_role("status")).to_have_text(text)


def _pixels(page):
    """What the pad shows, (8, 8, 4)."""
    data = "c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data]"
    return np.array(page.locator("#pad canvas").evaluate(data)).reshape(8, 8, 4)


def _tab_to(page, target):
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the keyboard doesn't get there")


def test_examples_from_inside_are_answered_and_others_not(visit):
    page = visit("arms")
    _says(page, "Answer: arm 1")
    page.get_by_role("group", name="Test set").get_by_role("button", name="arm 3").click()
    _says(page, "Answer: arm 3")
    expect(page.locator("#shown")).to_have_text("From the test set, of class arm 3.")
    expect(page.locator("#total")).to_contain_text("% of what it was trained for")
    expect(page.locator("#probabilities li").nth(2)).to_contain_text("99.9")
    page.get_by_role("group", name="Outside: middle").get_by_role("button", name="1").click()
    _says(page, "Abstain: uncertain and unfamiliar")
    expect(page.locator("#because")).to_contain_text("total uncertainty 1.10 is above the limit 0.700")
    expect(page.locator("#total h3")).to_contain_text("1.10 nats")
    expect(page.locator("#total")).to_contain_text("higher than all of the 1,000 validation inputs")
    expect(page.locator("#data")).to_contain_text("higher than all of the 1,000 validation inputs")
    density = "Density of the Dirichlet with alphas 1.05, 0.975, 0.975"
    expect(page.locator("#simplex canvas")).to_have_attribute("aria-label", density)
    expect(page.locator("#precision")).to_contain_text("α₀ = 3")
    expect(page.locator("#effect tbody tr")).to_have_text(
        ["test2,00090.0\u00a0%5.0\u00a0%8.0\u00a0%", "middle50025.0\u00a0%––"]
    )


@pytest.mark.parametrize(
    ("model", "aim"),
    [("arms", "to answer 90\u00a0% of inputs"), ("quarters", "for at most 0.5\u00a0% errors in the answers to inputs")],
)
def test_limits_are_told_with_what_they_were_chosen_for(visit, model, aim):
    expect(visit(model).locator("#effect p")).to_contain_text(f"They were chosen {aim} like those")


@pytest.mark.parametrize("model", ["arms", "quarters"])
def test_decides_as_the_server_does(visit, site, model):
    page = visit(model)
    found = {each["name"]: each for each in requests.get(f"{site}/end2/models", timeout=30).json()["models"]}[model]
    for i, example in enumerate(found["metadata"]["examples"]):
        page.locator("#examples button").nth(i).click()
        if "png" in example:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(example["png"]))))
            np.testing.assert_array_equal(_pixels(page)[..., 0], pixels)
        given = example.get("features") or pixels[..., None].tolist()
        body = {"signature_name": "decide", "instances": [given]}
        (said,) = requests.post(f"{site}/v1/models/{model}:predict", json=body, timeout=30).json()["predictions"]
        reasons = [name for name in ("uncertain", "unfamiliar") if said[f"is_{name}"]]
        assert said["abstain"] == bool(reasons)
        name = found["metadata"]["classes"][said["predicted_class"]]
        _says(page, f"Abstain: {' and '.join(reasons)}" if reasons else f"Answer: {name}")


def test_limits_decide_at_once(visit):
    page = visit("arms")
    _says(page, "Answer: arm 1")
    page.route("**/*:predict", lambda route: route.abort())  # the page needs nobody for this
    limit = page.get_by_role("slider", name="Limit of total uncertainty")
    expect(limit).to_have_attribute("aria-valuetext", "Limit 0.700 nats: 78\u00a0% of validation is below it")
    expect(page.locator("#limits")).to_contain_text("These are the calibrated limits.")
    limit.press("Home")
    _says(page, "Abstain: uncertain")
    expect(limit).to_have_attribute("aria-valuetext", "Limit 0 nats: 0.0\u00a0% of validation is below it")
    expect(page.locator("#limits")).to_contain_text("These limits are yours.")
    limit.press("End")
    _says(page, "Answer: arm 1")
    expect(limit).to_have_attribute("aria-valuetext", "No limit: 100.0\u00a0% of validation is below it")
    knowledge = page.get_by_role("slider", name="Limit of knowledge uncertainty")
    box = knowledge.bounding_box()
    page.mouse.click(box["x"] + 10, box["y"] + box["height"] / 2)
    _says(page, "Abstain: unfamiliar")
    page.get_by_role("button", name="Reset limits").click()
    _says(page, "Answer: arm 1")
    expect(limit).to_have_attribute("aria-valuetext", "Limit 0.700 nats: 78\u00a0% of validation is below it")
    expect(page.get_by_role("button", name="Reset limits")).to_be_disabled()


def test_the_plane(visit):
    page = visit("arms")
    plane, features = page.locator("#map"), [page.get_by_label(f"Feature {i}") for i in (1, 2)]
    expect(page.locator("#scale")).to_be_visible()  # the heat map is there
    expect(page.locator("#map-progress")).to_be_hidden()
    middle = plane.locator("canvas").evaluate("c => [...c.getContext('2d').getImageData(200, 200, 1, 1).data]")
    assert middle == [253, 231, 37, 255]  # the brightest colour
    expect(page.locator("#scale")).to_contain_text("0.26")
    expect(page.get_by_label("Range ±")).to_have_value("120")
    size = plane.bounding_box()["width"]
    plane.click(position={"x": size / 2 - 87 * size / 240, "y": size / 2 + 50 * size / 240})
    _says(page, "Answer: arm 2")
    assert [float(each.input_value()) for each in features] == pytest.approx(ARMS[1], abs=1)
    page.mouse.down()  # and drags the point to the middle
    page.mouse.move(*(plane.bounding_box()[k] + size / 2 for k in "xy"), steps=5)
    page.mouse.up()
    _says(page, "Abstain: uncertain and unfamiliar")
    features[0].fill("87")
    features[1].fill("-50")
    _says(page, "Answer: arm 3")
    page.get_by_label("Heat map").select_option("Data")
    expect(page.locator("#scale")).to_contain_text("0.83")
    page.route("**/*:predict", lambda route: None)  # holds it
    page.get_by_label("Range ±").fill("1")
    page.get_by_label("Range ±").press("Enter")
    expect(page.locator("#map-progress")).to_be_visible()
    page.unroute_all()  # and goes on
    expect(page.locator("#map-progress")).to_be_hidden()
    expect(page.locator("#scale")).to_contain_text("0.83")


def test_without_a_mouse(visit):
    page = visit("arms")
    select = page.get_by_label("Model", exact=True)
    _tab_to(page, select)
    page.keyboard.type("arms")
    _tab_to(page, page.get_by_label("Plane of the two features"))
    expect(page.get_by_label("Feature 2")).to_have_value("100")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowDown")  # 12 nearer to the middle each
    expect(page.get_by_label("Feature 2")).to_have_value("4")
    _says(page, "Abstain: uncertain and unfamiliar")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Feature 2")).to_have_value("5.2")
    _tab_to(page, page.get_by_role("button", name="arm 2"))
    page.keyboard.press("Enter")
    _says(page, "Answer: arm 2")
    _tab_to(page, page.get_by_role("slider", name="Limit of knowledge uncertainty"))
    page.keyboard.press("Home")
    _says(page, "Abstain: unfamiliar")
    _tab_to(page, page.get_by_role("button", name="Reset limits"))
    page.keyboard.press("Space")
    _says(page, "Answer: arm 2")
    page.keyboard.press("Shift+Tab")
    _tab_to(page, select)
    page.keyboard.type("quarters")
    _says(page, "Answer: top left")
    _tab_to(page, page.get_by_role("button", name="Clear"))
    page.keyboard.press("Enter")
    _says(page, "Abstain: uncertain")


def test_a_drawing_asks_one_question_at_a_time_and_the_last_counts(visit):
    page = visit("quarters")
    page.get_by_role("button", name="Clear").click()
    _says(page, "Abstain: uncertain")
    asked = []

    def hold_the_first(route):
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/*:predict", hold_the_first)
    box = page.locator("#pad canvas").bounding_box()
    cell = box["width"] / 8
    page.mouse.move(box["x"] + 4.7 * cell, box["y"] + 4.5 * cell)
    page.mouse.down()
    for row in (4.5, 5.5, 6.5, 7.5):
        page.mouse.move(box["x"] + 4.7 * cell, box["y"] + row * cell, steps=3)
        page.mouse.move(box["x"] + 7.3 * cell, box["y"] + row * cell, steps=3)
    page.mouse.up()
    expect(page.locator("#shown")).to_have_text("Your drawing.")
    assert len(asked) == 1
    expect(page.locator("#answer")).to_have_class("stale")
    asked[0].continue_()
    _says(page, "Answer: bottom right")
    assert len(asked) == 2
    given = np.array(asked[1].request.post_data_json["inputs"])
    np.testing.assert_array_equal(given[0, ..., 0], _pixels(page)[..., 0])
    assert given.shape == (1, 8, 8, 1)
    assert given[0, 4:, 4:].mean() > 200 > 20 > given[0, :4].mean()
    page.unroute_all()
    page.get_by_role("button", name="Invert").click()
    expect(page.locator("#shown")).to_have_text("Inverted.")
    np.testing.assert_array_equal(_pixels(page)[..., 0], 255 - given[0, ..., 0])


def test_files(visit, tmp_path):
    page = visit("quarters")
    photo = np.full((40, 60, 3), (0, 0, 0), np.uint8)
    photo[20:, :30] = (255, 255, 0)
    (tmp_path / "photo.png").write_bytes(_png(photo))
    page.get_by_label("Open an image…").set_input_files(tmp_path / "photo.png")
    expect(page.locator("#shown")).to_have_text("photo.png, scaled to 8 × 8 pixels.")
    _says(page, "Answer: bottom left")
    assert _pixels(page)[6, 1].tolist() == [226, 226, 226, 255]  # yellow in grey
    (tmp_path / "notes.png").write_text("no image")
    page.get_by_label("Open an image…").set_input_files(tmp_path / "notes.png")
    expect(page.locator("#problem")).to_contain_text("notes.png is no image that this browser can read.")
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
            return transfer;
        }""",
        list(_png(_bright(1, 64))),
    )
    page.locator("#pad canvas").dispatch_event("drop", {"dataTransfer": transfer})
    _says(page, "Answer: top right")
    expect(page.locator("#problem")).to_be_hidden()


def test_colour(visit):
    page = visit("colours")
    expect(page.locator("#shown")).to_have_text("An empty pad.")  # it came without examples
    expect(page.locator("#about")).to_contain_text(
        "Images of 4 × 4 pixels, in colour. It came without the names of its classes."
    )
    page.get_by_label("Colour").fill("#0000ff")
    page.locator("#pad canvas").click()
    _says(page, "Answer: class 2")
    expect(page.locator("#total")).not_to_contain_text("trained for")
    expect(page.locator("#effect")).to_be_hidden()


def test_numbers(visit):
    page = visit("five")
    _says(page, "Answer: class 0")  # it came without names, and without limits
    field = page.get_by_label("5 numbers, separated by commas")
    expect(field).to_have_value("0, 0, 0, 0, 0")
    field.fill("0, 12, 0, 0, 1e1")
    page.get_by_role("button", name="Predict").click()
    _says(page, "Answer: class 1")
    expect(page.locator("#probabilities li")).to_have_count(16)  # of 20, the most probable first
    expect(page.locator("#probabilities .best")).to_contain_text("class 1")
    expect(page.locator("#precision")).to_contain_text("α₀ = 185,000")
    expect(page.locator("#simplex")).to_be_hidden()
    for typed, problem in [("1, 2", "There are 2 numbers; the model takes 5."), ("1, 2, x, 4, 5", "“x” is no number.")]:
        field.fill(typed)
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#numbers-problem")).to_have_text(problem)


def test_a_model_of_another_tool(visit):
    page = visit("strange")
    _says(page, "Answer: class 0")
    expect(page.locator("#shown")).to_have_text("The origin.")
    expect(page.locator("#about")).to_contain_text("without the names of its classes")
    expect(page.locator("#limits")).to_contain_text("It came without limits.")
    expect(page.locator("#because")).to_contain_text("Without limits all is answered.")
    expect(page.locator("#total")).to_contain_text("1.10 nats")
    expect(page.locator("#lacks")).to_have_text("This model doesn’t tell data from knowledge uncertainty.")
    expect(page.get_by_role("slider", name="Limit of total")).to_have_attribute("aria-valuetext", "No limit")
    page.get_by_role("slider", name="Limit of total").press("Home")
    _says(page, "Abstain: uncertain")


def test_answers_that_arent_ours(visit):
    page = visit("strange")
    page.route(
        "**/*:predict", lambda route: route.fulfill(body='{"outputs": {"probs": [[NaN, NaN]], "x": [-Infinity]}}')
    )
    page.get_by_label("Feature 1").fill("1")
    _says(page, "Abstain: uncertain")
    expect(page.locator("#because")).to_have_text("Its total uncertainty is not a number.")
    expect(page.locator("#knowledge")).to_be_hidden()
    page.route("**/*:predict", lambda route: route.fulfill(json={"outputs": {"score": [1.5]}}))
    page.get_by_label("Feature 1").fill("2")
    expect(page.locator("#raw")).to_contain_text("1.5")
    expect(page.locator("#decision")).to_be_hidden()
    expect(page.locator("#probabilities")).to_be_hidden()
    page.get_by_label("Range ±").fill("3")
    page.get_by_label("Range ±").press("Enter")
    expect(page.locator("#map-problem")).to_have_text("There is no heat map. The model gives no probabilities.")


def test_the_address_names_the_model_and_inputs_stay(visit):
    page = visit("quarters")
    page.get_by_label("Model", exact=True).select_option("arms, version 1 (stable)")
    _says(page, "Answer: arm 1")
    assert page.url.endswith("#arms/1")
    page.get_by_role("button", name="arm 2").click()
    _says(page, "Answer: arm 2")
    page.get_by_label("Model", exact=True).select_option("strange, version 1 (stable)")
    _says(page, "Answer: class 1")  # of the same point
    page.go_back()
    _says(page, "Answer: arm 2")
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value("#arms/1")
    _says(page, "Answer: arm 1")


def test_opens_the_stable_version_unless_told(visit, served):
    for address, version in ("points", 1), ("points/2", 2), ("points/7", 1), ("images", 1):
        chosen = visit(address, served.rest).get_by_label("Model", exact=True)
        expect(chosen).to_have_value(f"#{address.partition('/')[0]}/{version}")


def test_what_the_server_refuses_is_said(visit):
    page = visit("arms")
    refusal = {"status": 503, "json": {"error": "4,096 inputs are waiting. Try again later."}}
    page.route("**/*:predict", lambda route: route.fulfill(**refusal))
    page.get_by_role("button", name="arm 2").click()
    expect(page.locator("#problem")).to_contain_text("The server says: 4,096 inputs are waiting. Try again later.")
    expect(page.locator("#answer")).to_have_class("stale")
    page.get_by_label("Range ±").fill("1")
    page.get_by_label("Range ±").press("Enter")
    expect(page.locator("#map-problem")).to_contain_text("There is no heat map. The server says: 4,096")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    _says(page, "Answer: arm 2")
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#answer")).not_to_have_class("stale")


def test_a_server_that_goes_and_comes_back(visit, folder):
    models = [each for each in catalogue.find(folder) if each.name == "five"]
    with _serving(models) as address:
        page = visit("five", address)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#problem")).to_contain_text("The server can’t be reached. Is it still running?")
    page.get_by_label("5 numbers").fill("0 0 3 0 0")
    with _serving(models, port=int(address.rpartition(":")[2])):
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#problem")).to_be_hidden()
        page.get_by_role("button", name="Predict").click()
        _says(page, "Answer: class 2")


@pytest.mark.parametrize("model", ["arms", "quarters", "five"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read_on_any_screen(visit, model, scheme):
    page = visit(model, color_scheme=scheme, viewport={"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.evaluate("scrollTo(0, 0)")
    assert page.locator("#decision").bounding_box()["y"] < 640  # it is seen while one draws
    unnamed = "es => es.filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"
    assert page.locator("button, select, input, textarea").evaluate_all(unnamed) == []
    texts = page.locator("body *:not(option, svg *, :disabled)").evaluate_all(_COLOURS)
    assert len(texts) > 20
    assert [text for text, ink, ground in texts if _contrast(ink, ground) < 4.5] == []


_COLOURS = """elements => elements
    .filter(e => e.checkVisibility() && [...e.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
    .map(e => {
        let ground = e;
        while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
        return [e.outerHTML.slice(0, 90), getComputedStyle(e).color, getComputedStyle(ground).backgroundColor];
    })"""


def _contrast(*colours):
    """Of two CSS colours, by the Web Content Accessibility Guidelines 2.1: 4.5 is enough for text."""

    def luminance(colour):
        parts = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    dark, bright = sorted(map(luminance, colours))
    return (bright + 0.05) / (dark + 0.05)


def test_formulas(visit):
    page = visit("arms")
    percentiles = np.sort(np.random.default_rng(0).exponential(size=101))
    values = [*np.linspace(percentiles[0], percentiles[-1], 50), -1.0, 99.0]
    ask = "([p, values]) => import('/page/measures.js').then(m => values.map(value => m.shareBelow(p, value)))"
    shares = page.evaluate(ask, [percentiles.tolist(), values])
    np.testing.assert_allclose(shares, np.interp(values, percentiles, np.linspace(0, 1, 101)), atol=1e-12)
