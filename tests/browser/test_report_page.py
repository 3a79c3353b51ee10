"""The report in a real browser: ticked, pointed at, typed at, narrow, dark, printed."""

import base64

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import refspec
from refspec import attribution, curvature, report
from refspec.plots import COLOURS
from refspec.report.knockouts import knockouts_of
from refspec.theorems import find
from support.chromium import LOGS, audited, requested, started, width


@pytest.fixture(scope="module")
def snapshot():
    return refspec.datasets.digits_mlp()


@pytest.fixture(scope="module")
def page(snapshot, tmp_path_factory):
    some = find(["L1", "L3", "L8", "A3"])
    contents = report.collect(snapshot, dense=200, theorems=some)
    return report.write(contents, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def browser(chromium, page):
    """The page freshly loaded; afterwards, that it did not complain or call out."""
    for kind in LOGS:
        chromium.get_log(kind)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    media(chromium)
    chromium.get(page.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    for asked in requested(chromium):
        assert asked == page.as_uri() or asked.startswith("data:")


def drawn(browser):
    """Eigenvalues in the picture, by rank."""
    dots = browser.execute_script(
        "return [...document.querySelectorAll('#ranks [data-k]')]"
        ".map(x => [Number(x.dataset.k), Number(x.dataset.value)])"
    )
    return dict(dots)


def counted(browser):
    """All eigenvalues of the histogram."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#bins [data-count]')]"
        ".reduce((sum, x) => sum + Number(x.dataset.count), 0)"
    )


def expected(values, floor, low=0.0, top=400):
    """What of the eigenvalues that a page carries is above the floor and in sight."""
    values = [float(f"{v:.6g}") for v in np.asarray(values)[:top]]
    return {k + 1: v for k, v in enumerate(values) if v > floor and v >= low}


def lowest(values, floor):
    """Where the axis ends: below the last value of the whole that the page carries."""
    return min(expected(values, floor).values()) / 1.5


def level(browser, name):
    return browser.find_element(By.CSS_SELECTOR, f"input[data-level={name}]")


def media(browser, kind="", scheme="light"):
    """Set what the page is shown on; nothing glides, so nothing need be awaited."""
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    command = {"media": kind, "features": features}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", command)


def bars(browser, attribute):
    """What the histogram's bars are made of."""
    return set(
        browser.execute_script(
            "return [...document.querySelectorAll('#bins rect[data-level]')]"
            ".map(x => x.getAttribute(arguments[0]))",
            attribute,
        )
    )


def unfold(browser):
    browser.execute_script(
        "for (const x of document.querySelectorAll('details')) x.open = true"
    )


def test_every_tick_redraws_the_right_knockout(browser, snapshot):
    basis = attribution.eigenbasis(curvature.fisher(snapshot))
    made = knockouts_of(basis)
    whole = attribution.attribute(basis)
    floor = float(f"{whole.radius:.6g}")
    assert drawn(browser) == expected(basis.values, floor)
    low = lowest(basis.values, floor)
    names = list(made.groups)
    assert names == ["between_class", "between_cross_class", "within_cross_class"]
    m = 0
    # a walk over all subsets that changes one level at a time (a Gray code)
    for step in range(1, 2 ** len(names)):
        bit = (step & -step).bit_length() - 1
        level(browser, names[bit]).click()
        m ^= 1 << bit
        values, removed = made.values[m], {n for i, n in enumerate(names) if m >> i & 1}
        assert drawn(browser) == expected(values, floor, low)
        assert level(browser, names[bit]).is_selected() == (names[bit] not in removed)
        assert counted(browser) <= np.sum(values > whole.radius)
        # what stays keeps its colours, and its kind is that of its largest share
        kept = set(names) - removed
        assert bars(browser, "data-level") <= kept
        assert bars(browser, "fill") <= {COLOURS[n] for n in kept}
        kinds = browser.execute_script(
            "return [...document.querySelectorAll('#ranks [data-kind]')]"
            ".map(x => [Number(x.dataset.k), x.dataset.kind])"
        )
        of = {"outlier": "between_class", "bump": "between_cross_class"}
        for k, kind in kinds[:30]:
            parts = {n: x[k - 1] for n, x in made.shares[m].items()}
            mine = parts[of.get(kind, "within_cross_class")]
            assert mine >= max(parts.values()) - 1 / 10_000  # as they are rounded
        status = browser.find_element(By.ID, "status").text
        assert status.startswith("Without")
        if len(removed) == len(names):
            assert drawn(browser) == {}
            assert "and 0 % of the trace stays" in status


PICTURES = ("ranks", "bins", "proof")


def inside(browser, *ids):
    script = "return arguments[0].map(x => document.getElementById(x).innerHTML)"
    return browser.execute_script(script, list(ids))


def test_a_matrix_and_an_axis_go_for_every_picture(browser):
    chosen = Select(browser.find_element(By.ID, "matrix"))
    before = inside(browser, *PICTURES, "top-table", "status", "eigenvalue")
    for option in (
        "Fisher information of layer fc2",
        "errors coming back to layer fc1",
    ):
        chosen.select_by_visible_text(option)
        after = inside(browser, *PICTURES, "top-table", "status", "eigenvalue")
        assert all(x != y for x, y in zip(before, after, strict=True))
        assert option in after[3]
        before = after
    before = inside(browser, *PICTURES)
    browser.find_element(By.CSS_SELECTOR, "input[value=linear]").click()
    after = inside(browser, *PICTURES)
    assert all(x != y for x, y in zip(before, after, strict=True))


def test_what_is_proved_stands_beside_the_interval_that_proves_it(browser, snapshot):
    """Whoever is proved lies in an interval whose lower end is above zero."""
    found = refspec.attribute(curvature.fisher(snapshot))
    slider = browser.find_element(By.ID, "rank")
    for k in range(1, 20):
        text = browser.find_element(By.ID, "verdict").text
        value = float(np.asarray(found.spectrum.values)[k - 1])
        low, high = (float(x) for x in text.split("[")[1].split("]")[0].split(", "))
        digit = 1e-6  # a page carries six; what is shown of them is rounded outwards
        assert low * (1 - digit) <= value <= high * (1 + digit)
        if found.kinds[k - 1] != "bulk":
            assert ("not proved" in text) != bool(found.proved[k - 1])
        if found.proved[k - 1]:
            assert low > 0
        slider.send_keys(Keys.ARROW_RIGHT)


def test_a_matrix_of_features_has_its_own_levels(browser, snapshot):
    chosen = Select(browser.find_element(By.ID, "matrix"))
    chosen.select_by_visible_text("features entering layer fc3")
    names = [
        x.get_attribute("data-level")
        for x in browser.find_elements(By.CSS_SELECTOR, "input[data-level]")
    ]
    assert names == ["global_mean", "between_class", "within_class"]
    basis = attribution.eigenbasis(curvature.features(snapshot, "fc3"))
    values = knockouts_of(basis).values[1]
    floor = attribution.attribute(basis).radius
    level(browser, "global_mean").click()
    assert drawn(browser) == expected(values, floor)


def test_pointing_at_an_eigenvalue_tells_of_it(browser, snapshot):
    found = refspec.attribute(curvature.fisher(snapshot))
    value = float(np.asarray(found.spectrum.values)[6])
    dot = browser.find_element(By.CSS_SELECTOR, "#ranks [data-k='7']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", dot)
    ActionChains(browser).move_to_element(dot).perform()
    text = browser.find_element(By.ID, "eigenvalue").text
    assert f"λ₇ = {float(f'{value:.6g}')}" in text
    share = 100 * float(f"{found.shares['between_class'][6]:.4f}")
    assert f"between class {share:.1f} %" in text
    assert f"Kind: {found.kinds[6]}" in text
    assert (", proved:" in text) == bool(found.proved[6])
    assert browser.find_element(By.ID, "rank").get_attribute("value") == "7"


def test_keys_are_enough(browser, snapshot):
    def tab_to(condition):
        script = f"const x = document.activeElement; return {condition}"
        for _ in range(60):
            press(Keys.TAB)
            if browser.execute_script(script):
                return
        pytest.fail(f"no tab stop with {condition}")

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    tab_to("x.className === 'skip'")
    tab_to("x.id === 'matrix'")
    press(Keys.ARROW_DOWN)
    tab_to("x.dataset.level === 'between_class'")
    press(Keys.SPACE)
    assert not level(browser, "between_class").is_selected()
    basis = attribution.eigenbasis(curvature.fisher(snapshot, ["fc1"]))
    values = knockouts_of(basis).values[1]
    floor = attribution.attribute(basis).radius
    assert drawn(browser) == expected(values, floor)
    tab_to("x.name === 'scale'")
    press(Keys.ARROW_RIGHT)
    assert "linear" in browser.execute_script("return document.activeElement.value")
    tab_to("x.id === 'rank'")
    press(Keys.ARROW_RIGHT * 3)
    text = browser.find_element(By.ID, "eigenvalue").text
    assert f"λ₄ = {float(f'{float(np.asarray(values)[3]):.6g}')}" in text
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) != "none"


@pytest.mark.parametrize("pixels", [320, 360, 768])
def test_a_narrow_page_does_not_scroll_sideways(browser, pixels):
    width(browser, pixels, mobile=True)
    browser.get(browser.current_url)
    unfold(browser)
    across = browser.execute_script("return document.documentElement.scrollWidth")
    assert across <= pixels
    # nothing is cut, and nothing need be scrolled to be read
    cut = browser.execute_script(
        "return [...document.querySelectorAll('.fitted, td, th, caption, pre')]"
        ".filter(x => !x.closest('.stacked thead'))"  # for ears only
        ".filter(x => x.scrollWidth > x.clientWidth + 1).map(x => x.textContent)"
    )
    assert cut == []
    stacked = browser.execute_script(
        "return [...document.querySelectorAll('.stacked td')]"
        ".map(x => [x.dataset.label, getComputedStyle(x).display])"
    )
    assert pixels > 400 or stacked
    assert all(name and display != "table-cell" for name, display in stacked)
    drawn_size = browser.execute_script(
        "const x = document.getElementById('ranks');"
        "const scale = x.getBoundingClientRect().width / x.viewBox.baseVal.width;"
        "return scale * parseFloat(getComputedStyle(x.querySelector('text')).fontSize)"
    )
    assert drawn_size >= 11


def luminance(colour):
    """Relative luminance of a computed colour, as WCAG 2 defines it."""
    parts = colour[colour.index("(") + 1 : -1].split(",")[:3]
    x = [float(p) / 255 for p in parts]
    x = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in x]
    return 0.2126 * x[0] + 0.7152 * x[1] + 0.0722 * x[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, scheme):
    media(browser, scheme=scheme)
    style = (
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    )
    ground = luminance(browser.execute_script(style, "body", "backgroundColor"))
    assert (ground < 0.5) == (scheme == "dark")
    unfold(browser)
    places = ["body", "nav a", "figcaption", "caption", "dt", ".kind.outlier"]
    places += [".kind.bump", "#ranks text"]
    for place in places:
        what = "fill" if place.endswith("text") else "color"
        ink = luminance(browser.execute_script(style, place, what))
        contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
        assert contrast >= 4.5, (place, contrast)


@pytest.mark.parametrize(
    ("pixels", "scheme"), [(1280, "light"), (390, "dark"), (390, "light")]
)
def test_axe_finds_nothing(browser, pixels, scheme):
    """The rules of axe-core for accessibility, everything unfolded."""
    width(browser, pixels, mobile=pixels < 600)
    media(browser, scheme=scheme)
    browser.get(browser.current_url)
    unfold(browser)
    found = audited(browser)
    assert [
        (x["id"], x["help"], x["nodes"][0]["target"]) for x in found["violations"]
    ] == []
    assert len(found["passes"]) > 20


def test_it_prints(browser):
    media(browser, "print")
    shown = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert browser.execute_script(shown, "nav") == "none"
    assert browser.execute_script(shown, "#ranks") != "none"
    media(browser)
    made = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    pdf = base64.b64decode(made["data"])
    assert pdf.startswith(b"%PDF")
    assert 1 < pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") < 30


def test_without_scripts_a_still_picture_stays(browser):
    switch = "Emulation.setScriptExecutionDisabled"
    browser.execute_cdp_cmd(switch, {"value": True})
    browser.get(browser.current_url)
    try:
        assert not browser.find_element(By.ID, "knockout").is_displayed()
        assert browser.find_element(By.CSS_SELECTOR, "noscript svg").is_displayed()
    finally:
        browser.execute_cdp_cmd(
            "Emulation.setScriptExecutionDisabled", {"value": False}
        )


def test_links_lead_to_their_theorem(browser):
    link = browser.find_element(By.CSS_SELECTOR, "#theorem-table a[href='#theorem-L3']")
    browser.execute_script("arguments[0].click()", link)
    assert browser.execute_script("return location.hash") == "#theorem-L3"
    assert browser.find_element(By.CSS_SELECTOR, "tr:target").text.startswith("L3")
