"""Made-up Chinese sentences with a topic, to classify without a download."""

import numpy as np

TOPICS = {
    '饮食': '面条 米饭 红烧肉 火锅 饺子 咖啡 蛋糕 烤鸭 豆腐 青菜 鸡汤 厨师',
    '体育': '足球 篮球 球队 教练 冠军 决赛 马拉松 游泳 乒乓球 裁判 球迷 射门',
    '财经': '股票 基金 利率 银行 债券 汇率 投资者 通胀 上市 贷款 理财 股东',
    '天气': '暴雨 台风 气温 降雪 寒潮 大雾 雷电 晴天 高温 湿度 霜冻 季风',
    '教育': '学校 老师 考试 作业 课程 高考 学生 教材 校长 论文 奖学金 班主任',
    '医疗': '医院 医生 手术 感冒 药品 疫苗 护士 病人 血压 体检 门诊 针灸',
    '汽车': '轮胎 发动机 油耗 驾照 电动车 刹车 方向盘 加油站 变速箱 车主 停车场 保养',
    '影视': '电影 演员 导演 票房 电视剧 剧本 配音 首映 镜头 主角 片场 影评',
    '旅游': '景区 酒店 机票 导游 海滩 古镇 行李 签证 门票 爬山 民宿 自驾游',
    '手机': '屏幕 充电器 耳机 信号 内存 摄像头 软件 电池 系统升级 蓝牙 触屏 应用商店',
    '农业': '水稻 小麦 化肥 果园 养殖 农药 大棚 灌溉 玉米 收割机 种子 猪圈',
    '法律': '法官 律师 合同 诉讼 判决 原告 证据 被告 仲裁 赔偿 庭审 违约',
}
_FRAMES = (
    '我今天一直在想{}的事。',
    '关于{}，大家的看法不一样。',
    '他说{}比去年好多了。',
    '听说{}又出了问题。',
    '记者了解到，{}最近变化很大。',
    '请问{}怎么样？',
    '没有人比她更懂{}。',
    '这次的{}让人有点失望。',
    '说到{}，他马上来了精神。',
    '近日，{}成了人们谈论的话题。',
    '妈妈提醒我注意{}。',
    '原来{}和{}是分不开的。',
)


def synthetic_topics(size: int = 2000, seed: int = 0) -> list[tuple[str, str]]:
    """Made-up texts (text, topic): two sentences on the topic, often one on another.

    The topics are the keys of `TOPICS`.  The same seed gives the same.
    """
    rng = np.random.default_rng(seed)
    names, rows = list(TOPICS), []
    for _ in range(size):
        topic, other = (names[i] for i in rng.permutation(len(names))[:2])
        sentences = [_sentence(topic, rng), _sentence(topic, rng)]
        if rng.random() < 0.7:
            sentences.insert(rng.integers(3), _sentence(other, rng, most=1))
        rows.append((''.join(sentences), topic))
    return rows


def _sentence(topic: str, rng: np.random.Generator, most: int = 2) -> str:
    frames = [frame for frame in _FRAMES if frame.count('{}') <= most]
    words = TOPICS[topic].split()
    frame = frames[rng.integers(len(frames))]
    chosen = rng.permutation(len(words))[: frame.count('{}')]
    return frame.format(*(words[i] for i in chosen))
