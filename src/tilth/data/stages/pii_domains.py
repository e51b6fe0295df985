"""Top-level domains (IANA's root zone), as far as e-mail addresses are told from programs by them.

    COMMON           countries', and the generic ones that are seen most: what ends with one is an address
    GENERIC          more generic ones: words, so that what ends with one must look like an address besides
    OTHER_SCRIPTS    those that are not written in Latin letters

Not among them are most brands', and what files and programs end with more often than addresses do: zip, mov, map, data,
dot, call, select, host, bar …
"""

_COMMON = """
    com org net edu gov mil int info biz name pro aero coop museum mobi jobs travel tel cat asia app dev cloud wiki top
    online shop site xyz tech store blog email club live news agency group company solutions services systems
    digital media network software design studio academy school university health care bank finance legal law today
    world life space website page link global international berlin hamburg koeln bayern wien paris london amsterdam
    nyc tokyo moscow photography consulting fun icu vip pub bio eco ngo ong ink win ltd gmbh llc inc srl sarl
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt
    bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj
    fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is
    it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn
    mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt
    pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl
    tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
COMMON = frozenset(_COMMON.split())

_GENERIC = """
    abbott abbvie abogado abudhabi accenture accountant accountants actor adult africa airbus airforce airtel
    alibaba allstate alsace apartments archi army art associates attorney auction audi audio auto autos band
    barclaycard barclays bargains basketball bcn beauty beer best bet bible bid bike bingo black blackfriday
    bloomberg blue bmw bnpparibas boats bom bond bosch bot boutique bridgestone broadway broker brussels build
    builders business buzz bzh cab cafe cam camera camp capetown capital car cards career careers cars casa cash
    casino catering catholic center ceo cern cfd charity chat cheap christmas church cisco city claims cleaning
    click clinic clothing coach codes coffee college cologne community compare computer comsec condos construction
    contact contractors cooking corsica country coupon coupons courses cpa credit creditcard creditunion cricket
    cruise cruises cymru cyou dad dance dating dds deal dealer deals degree delivery dell deloitte democrat dental
    dentist desi diamonds diet direct directory discount diy doctor dog domains download dubai durban earth edeka
    education energy engineer engineering enterprises epson equipment ericsson esq estate eus events exchange expert
    exposed express fail faith family fan fans farm farmers fashion fedex feedback ferrari film financial firestone
    fish fishing fit fitness flights florist flowers football forex forsale forum foundation fresenius frl fujitsu
    fund furniture futbol fyi gal gallery game games garden gay gdn gent gift gifts gives giving glass gmx godaddy
    gold golf goodyear google gop graphics gratis green gripe grocery guide guitars guru hair haus healthcare help
    helsinki hiphop hitachi hiv hockey holdings holiday homes honda horse hospital hosting hotels hotmail house hsbc
    hughes hyundai ice ikano immo immobilien industries ing institute insurance insure investments irish ismaili ist
    istanbul jaguar jetzt jewelry joburg juegos kaufen kids kim kitchen kiwi kosher kpmg krd kyoto lamborghini land
    landrover lanxess lat latino lawyer lease leclerc lefrak lexus lgbt lidl lifestyle lighting limited limo living
    llp loan loans locker lol lotto love ltda lundbeck luxe luxury madrid maison makeup management mango market
    marketing markets marriott mattel mba mckinsey melbourne meme memorial men menu merck miami microsoft mitsubishi
    moda moe mom monash money monster mormon mortgage motorcycles movie music nagoya navy netflix nexus nhk nico
    ninja nissan nokia nowruz nrw observer okinawa one onl ooo organic osaka ovh panasonic partners parts party pet
    pfizer pharmacy phd philips photo photos physio pics pictures pid pink pioneer pizza place plumbing plus poker
    politie porn post press productions prof promo properties property protection qpon quebec quest racing radio
    realestate realtor realty recipes red rehab reise reisen reit rent rentals repair report republican rest
    restaurant review reviews rexroth rich ricoh rio rip rocks rodeo rsvp rugby ruhr ryukyu saarland sale salon
    samsung sandvik sanofi sbs schaeffler schmidt scholarships schule schwarz science scot secure security sex sexy
    shiksha shoes shopping singles ski skin soccer social softbank solar soy spa sport stada statefarm stockholm
    storage stream study style sucks supplies supply support surf surgery suzuki swatch swiss sydney taipei tatar
    tattoo tax taxi team technology tennis theater theatre tickets tienda tips tires tirol tools toshiba tours town
    toyota toys trade trading training trust tube tunes uno vacations vegas ventures versicherung vet viajes video
    villas vin vision vlaanderen vodka volvo vote voting voto voyage wales walmart wang watch watches weather webcam
    weber wed wedding wine work works wtf xihuan xxx yachts yahoo yandex yoga yokohama youtube zappos zone zuerich
"""
GENERIC = frozenset(_GENERIC.split())

_OTHER_SCRIPTS = """
    бг бел дети ею католик ком қаз мкд мон москва онлайн орг рус рф сайт срб укр ελ ευ հայ გე ישראל קום
    الاردن البحرين الجزائر السعودية العراق المغرب امارات ایران بازار بيتك پاکستان تونس سودان سورية شبكة عرب عمان فلسطين
    قطر كوم مصر مليسيا موريتانيا موقع 中国 中國 公司 网络 网址 网站 在线 台湾 台灣 香港 澳門
    新加坡 한국 닷컴 닷넷 コム みんな 世界
"""
OTHER_SCRIPTS = tuple(_OTHER_SCRIPTS.split())
