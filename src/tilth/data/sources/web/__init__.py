"""The web as a source: what comes is kept as WARC, and read from there like any other file.

config.py          what a recipe says: CrawlConfig, CommonCrawlConfig
crawl.py           crawl(config, base, folder): the loop, its order, what became of each URL
frontier.py        which URL is next, and why one is not
courier.py         one page: waiting, asking, asking again, robots.txt
exchange.py        one request and its answer, bounded in bytes and time, to public addresses only
archive.py         what a crawl leaves: records in the order of URLs, and the list of all URLs
common_crawl.py    WARC and WET files, whole or by ranges
journal.py         lines that survive a kill
warc.py            WARC records out and in; http_message.py: the HTTP inside
documents.py       records to documents
earlier.py         the crawl before, for a second visit
links.py  sitemaps.py  urls.py     addresses out of pages and sitemaps, and their one spelling
"""
