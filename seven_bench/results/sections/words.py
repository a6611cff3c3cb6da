"""How to read the page."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
<section aria-labelledby="words-title">
  <h2 id="words-title">How to read this</h2>
  <dl class="words">
    <dt>Sparsity</dt><dd>The fraction of the prunable weights that is removed; other denominators are in <code>results.csv</code>.</dd>
    <dt>± and (n)</dt><dd>The sample standard deviation over n seeds. It says how much runs differ, not how well their mean is known; the interval for the mean opens with the number.</dd>
    <dt>Test-set error</dt><dd>What a test set of this size leaves open about an accuracy, with every seed the same: Wilson’s 95&nbsp;% binomial interval.</dd>
    <dt>Example equivalents</dt><dd>A forward pass of one example is 1, its gradient 3. Scoring, training, earlier rounds and the dense start are summed.</dd>
    <dt>Too few seeds to test</dt><dd>With n paired seeds no sign-flip test goes below 2<sup>1−n</sup>. Where that cannot pass the level, corrected for the number of tests, nothing is tested.</dd>
    <dt>No difference shown</dt><dd>Not the same as equal: equality is tested only against a margin that was stated beforehand.</dd>
  </dl>
</section>
"""

SECTION = Section(_MARKUP)
