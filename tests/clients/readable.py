"""What can be wrong with a page for people who see little, or nothing, or use no mouse."""

from __future__ import annotations

FAULTS = """
    const faults = [];
    const count = (selector, least, most) => {
        const found = document.querySelectorAll(selector).length;
        if (found < least || found > most) faults.push(`${found} ${selector}`);
    };
    count('h1', 1, 1); count('main', 1, 1); count('html[lang]', 1, 1);
    for (const field of document.querySelectorAll('input, select, textarea'))
        if (!field.labels.length) faults.push(`no label: ${field.name}`);
    for (const table of document.querySelectorAll('table'))
        if ([...table.querySelectorAll('th')].some(header => !header.scope)) faults.push('a header without scope');
    for (const image of document.querySelectorAll('svg'))
        if (!image.getAttribute('aria-label') && !image.getAttribute('aria-hidden')) faults.push('an unnamed image');
    const channels = colour => {
        const [red, green, blue, alpha = 1] = colour.match(/[0-9.]+/g).map(Number);
        return {light: [red, green, blue].map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0), alpha};
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const found = channels(getComputedStyle(element).backgroundColor);
            if (found.alpha) return found.light;
        }
        return channels(getComputedStyle(document.body).backgroundColor).light;
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('svg')) continue;
        const [low, high] = [ground(element), channels(getComputedStyle(element).color).light].sort((a, b) => a - b);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
    }
    return [...new Set(faults)];
"""
"""What speaks against a page (WCAG 2.2: 1.1.1, 1.3.1, 1.4.3, 3.1.1, 3.3.2), in words."""
